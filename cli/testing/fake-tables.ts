// The tables that the fake service has, and what they hold in each of its VMs.
import { ColumnType } from "../../proto/gen/cloudvmi/v1/guest_pb.ts";
import { checkColumns, checkRows, findingColumns } from "./fake-findings.ts";

const column = (name: string, type: ColumnType) => ({ name, type, description: `the ${name}`, key: false });
const processColumns = [
  column("pid", ColumnType.INTEGER),
  column("parent", ColumnType.INTEGER),
  column("uid", ColumnType.INTEGER),
  column("state", ColumnType.TEXT),
  column("threads", ColumnType.INTEGER),
  column("resident_size", ColumnType.INTEGER),
  column("name", ColumnType.TEXT),
  column("cmdline", ColumnType.TEXT),
];
const spec = (name: string, columns: typeof processColumns) => ({
  name,
  description: `the ${name}`,
  columns,
  permission: "table",
  cost: "walk",
  examples: [],
});
export const tables = [
  spec("processes", processColumns),
  spec("process_threads", [
    column("pid", ColumnType.INTEGER),
    column("tid", ColumnType.INTEGER),
    column("state", ColumnType.TEXT),
    column("nice", ColumnType.INTEGER),
    column("name", ColumnType.TEXT),
  ]),
  spec("kernel_info", [
    column("version", ColumnType.TEXT),
    column("hostname", ColumnType.TEXT),
    column("boot_time", ColumnType.INTEGER),
    column("uptime", ColumnType.INTEGER),
    column("paging", ColumnType.TEXT),
    column("build_id", ColumnType.TEXT),
  ]),
  spec("time", [column("uptime", ColumnType.INTEGER)]),
  spec("kernel_log", [column("time", ColumnType.INTEGER), column("message", ColumnType.TEXT)]),
  spec(
    "findings",
    findingColumns.map((name) => column(name, name === "pid" ? ColumnType.INTEGER : ColumnType.TEXT)),
  ),
  spec(
    "checks",
    checkColumns.map((name) => column(name, ColumnType.TEXT)),
  ),
];

/** The text "unreadable" stands for a cell in that state. */
export type Value = number | bigint | string | Uint8Array | null;
/** Rows of `processes`: a hostile name, a kernel thread without command line, and a size beyond 2^53. */
const processes: Record<string, Value>[] = [
  {
    pid: 1,
    parent: 0,
    uid: 0,
    state: "S",
    threads: 1,
    resident_size: 12 * 2 ** 20,
    name: "init",
    cmdline: "/sbin/init",
  },
  { pid: 2, parent: 0, uid: 0, state: "S", threads: 1, resident_size: 0, name: "kthreadd", cmdline: null },
  {
    pid: 77,
    parent: 1,
    uid: 1000,
    state: "R",
    threads: 3,
    resident_size: 2n ** 60n,
    name: new Uint8Array([0x1b, 0x5b, 0x33, 0x31, 0x6d, 0xff]),
    cmdline: "unreadable",
  },
];
export const rowsOf: Record<string, Record<string, Value>[]> = {
  processes,
  process_threads: [
    { pid: 1, tid: 1, state: "S", nice: 0, name: "init" },
    { pid: 77, tid: 78, state: "R", nice: -5, name: "worker" },
  ],
  kernel_info: [
    {
      version: "6.12",
      hostname: "shop",
      boot_time: 1_795_424_400,
      uptime: 90_061,
      paging: "4-level",
      build_id: "0123456789abcdef0123",
    },
  ],
  time: [{ uptime: 90_061_123_456_789 }],
  kernel_log: [
    { time: 0, message: "Linux version 6.12" },
    { time: 6_691_234_567, message: "up" },
  ],
  checks: checkRows,
};
