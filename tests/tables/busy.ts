// How the rows of each table tell whose they are, in a guest that busy.py keeps busy: every name has its owner's process id.
import type { TableQuery } from "../../vmi/index.ts";
import type { Row } from "../engine/support.ts";

/** As in busy.py. */
const [ID, SERVER, CLIENT, LIMIT, FIRST_SIGNAL] = [100_000, 20_000, 40_000, 2 ** 40, 40];
const BITS = 15;
const ADDRESS = "127.9.9.9";

export interface Owned {
  readonly name: string;
  readonly query?: TableQuery;
  /** Columns that no two rows of one answer may have alike; none where what is counted may be taken again meanwhile. */
  readonly key: readonly string[];
  /** The process ids that a row's cells tell; its own is in `pid`. */
  readonly ownersOf: (row: Row) => number[];
  /** What is wrong with rows that only together tell something. */
  readonly together?: (rows: readonly Row[]) => string[];
  /** Rows of so many owners must have been seen. */
  readonly owners: number;
}

/** Owners in texts: ownPID wherever it stands. */
function named(row: Row): number[] {
  const owners: number[] = [];
  for (const value of Object.values(row)) {
    if (typeof value !== "string") continue;
    for (const [, pid] of value.matchAll(/own(\d+)/g)) owners.push(Number(pid));
  }
  return owners;
}

const numbered =
  (from: number, ...columns: readonly string[]) =>
  (row: Row): number[] => {
    const values = columns.map((column) => row[column]).filter((value) => typeof value === "number");
    return values.filter((value) => value >= from).map((value) => value - from);
  };

const userIds = numbered(ID, "uid", "gid", "euid", "egid", "suid", "sgid", "fsuid", "fsgid");

function ports(row: Row): number[] {
  const owners: number[] = [];
  for (const [address, port] of [
    [row.local_address ?? row.address, row.local_port ?? row.port],
    [row.remote_address, row.remote_port],
  ]) {
    if (address === ADDRESS && typeof port === "number" && port >= SERVER) {
      owners.push(port - (port >= CLIENT ? CLIENT : SERVER));
    }
  }
  return owners;
}

/** A process blocks the signals that are the bits of its id, or none of them yet. */
function blockedSignals(rows: readonly Row[]): string[] {
  const wrong: string[] = [];
  for (const [pid, found] of Map.groupBy(rows, (row) => row.pid as number)) {
    let blocked = 0;
    for (const row of found) {
      const bit = (row.signal as number) - FIRST_SIGNAL;
      if (row.blocked === 1 && bit >= 0 && bit < BITS) blocked |= 1 << bit;
    }
    if (blocked !== 0 && blocked !== (1 << BITS) - 1 && blocked !== pid)
      wrong.push(`${pid} blocks those of ${blocked}`);
  }
  return wrong;
}

const both =
  (...parts: readonly ((row: Row) => number[])[]) =>
  (row: Row): number[] =>
    parts.flatMap((part) => part(row));

export const owned: readonly Owned[] = [
  { name: "processes", key: ["pid"], ownersOf: both(named, userIds), owners: 10 },
  { name: "process_threads", key: ["tid"], ownersOf: named, owners: 10 },
  { name: "process_envs", key: [], ownersOf: named, owners: 4 },
  {
    name: "process_tree",
    key: ["pid"],
    ownersOf: (row) => [...named(row), ...(named(row).length > 0 ? [Number(String(row.path).split("/").at(-1))] : [])],
    owners: 10,
  },
  { name: "process_memory_map", key: ["pid", "start"], ownersOf: named, owners: 10 },
  { name: "process_libraries", key: ["pid", "start"], ownersOf: named, owners: 4 },
  { name: "process_open_files", key: ["pid", "fd"], ownersOf: named, owners: 10 },
  { name: "deleted_executables", key: ["pid"], ownersOf: named, owners: 4 },
  { name: "memfd_files", key: [], ownersOf: named, owners: 10 },
  { name: "mounts", key: [], ownersOf: named, owners: 4 },
  { name: "page_cache_files", key: [], ownersOf: both(named, userIds), owners: 10 },
  {
    name: "process_credentials",
    key: ["pid"],
    ownersOf: both(userIds, ({ groups }) => (Number(groups) >= ID ? [Number(groups) - ID] : [])),
    owners: 10,
  },
  {
    name: "process_capabilities",
    key: ["pid"],
    ownersOf: ({ inheritable }) => {
      const owner = typeof inheritable === "string" ? Number.parseInt(inheritable, 16) : 0;
      return owner === 0 ? [] : [owner];
    },
    owners: 10,
  },
  {
    name: "process_namespaces",
    key: ["pid"],
    // The id within the first namespace is the id.
    ownersOf: ({ pid_namespace, pid_in_namespace }) =>
      pid_namespace === 4_026_531_836 && typeof pid_in_namespace === "number" ? [pid_in_namespace] : [],
    owners: 10,
  },
  {
    name: "process_limits",
    query: { where: [{ column: "resource", values: ["rttime"] }] },
    key: ["pid", "resource"],
    ownersOf: numbered(LIMIT, "soft", "hard"),
    owners: 10,
  },
  {
    name: "process_signals",
    query: { where: [{ column: "blocked", values: ["1"] }] },
    key: ["pid", "signal"],
    ownersOf: () => [],
    together: blockedSignals,
    owners: 0,
  },
  { name: "process_open_sockets", key: ["pid", "fd"], ownersOf: both(named, ports), owners: 8 },
  { name: "connections", key: [], ownersOf: both(named, ports, userIds), owners: 8 },
  { name: "listening_ports", key: [], ownersOf: both(named, ports), owners: 8 },
  { name: "users_seen", key: ["uid"], ownersOf: both(numbered(ID, "uid"), firstOfOwned), owners: 10 },
  { name: "cgroups", key: [], ownersOf: named, owners: 10 },
];

/** Of an owner's user only the owner is a process. */
function firstOfOwned({ uid, first_pid }: Row): number[] {
  return typeof uid === "number" && uid >= ID ? [first_pid as number] : [];
}
