// Compares the tables of tasks with what the guest's own /proc said before and after they were read.
import assert from "node:assert/strict";
import { type Stat, type Truth, type TruthProcess, textOf } from "../../lab/index.ts";
import { type Cell, type Row, type Subject, textIn } from "./support.ts";

type Tell = (line: string) => void;

/** Clock ticks of /proc a second: USER_HZ. */
const HZ = 100;

/**
 * Pairs each process that lived through both truths with its row. What started or ended in between can't be held to
 * either and is told; in a guest that starts nothing itself, only the kernel's own workers may come and go.
 */
export function pairProcesses(rows: readonly Row[], before: Truth, after: Truth, tell: Tell): Paired[] {
  const byPid = new Map(rows.map((row) => [row.pid as number, row]));
  assert.equal(byPid.size, rows.length, "a pid has two rows");
  const paired: Paired[] = [];
  for (const [pid, was] of before.processes) {
    const is = after.processes.get(pid);
    const row = byPid.get(pid);
    if (is === undefined || is.stat.starttime !== was.stat.starttime) {
      passing(tell, was, "ended");
      continue;
    }
    assert.ok(row, `process ${pid} (${was.comm}) is missing`);
    paired.push({ row, was, is });
    byPid.delete(pid);
  }
  for (const [pid, row] of byPid) {
    const is = after.processes.get(pid);
    if (is !== undefined) passing(tell, is, "started");
    else if (!before.processes.has(pid)) {
      tell(`process ${pid} (${textIn(row, "name")}) started and ended meanwhile`);
      assert.match(textIn(row, "name"), /^kworker\//, `process ${pid} is none of the guest's`);
    }
  }
  return paired;
}

export interface Paired {
  readonly row: Row;
  readonly was: TruthProcess;
  readonly is: TruthProcess;
}

function passing(tell: Tell, process: TruthProcess, what: string): void {
  tell(`process ${process.pid} (${process.comm}) ${what} meanwhile`);
  assert.match(process.comm, /^kworker\//, "only the kernel's workers come and go in this guest");
}

export function compareProcesses(
  paired: readonly Paired[],
  directories: ReadonlyMap<number, Directories>,
  tell: Tell,
): void {
  for (const { row, was, is } of paired) {
    const expected = expectedProcess(was, directories.get(was.pid));
    const actual = Object.fromEntries(Object.keys(expected).map((key) => [key, row[key]!]));
    expected.name = expectedName(row, was.kernelThread, was.comm, is.comm);
    assert.deepEqual(actual, expected, `process ${was.pid} (${was.comm})`);
    assertState(row, was, is);
    if (expected.path === null) assert.deepEqual([row.resident_size, row.total_size], [null, null]);
    else if (isCollector(was)) tell(`sizes of ${was.pid} are not compared: it collects the truth, and grows by it`);
    else {
      assertBetween(row.resident_size, residentOf(was), residentOf(is), row);
      assertBetween(row.total_size, was.stat.vsize, is.stat.vsize, row);
    }
    assert.match(textIn(row, "task"), /^0xff[0-9a-f]{14}$/);
  }
}

/** Bytes; the number in /proc/PID/stat leaves out what CPUs have not yet added up. */
function residentOf({ status }: TruthProcess): number {
  return Number.parseInt(status.get("VmRSS") ?? "", 10) * 1024;
}

export interface Directories {
  readonly cwd: string | null;
  readonly root: string | null;
}

/** A directory by what its link in /proc says. */
function placeOf(name: "cwd" | "root", link: string | null): Row {
  if (link === null) return { [name]: null, [`${name}_deleted`]: null };
  const mark = / \(deleted\)$/;
  return { [name]: link.replace(mark, ""), [`${name}_deleted`]: Number(mark.test(link)) };
}

/** Every column that must be exactly so. */
function expectedProcess(process: TruthProcess, directories: Directories | undefined): Row {
  const { stat, uids, gids, namespaces } = process;
  // A zombie has given up its memory, directories and namespaces.
  const gone = process.ended;
  const user = !process.kernelThread && !gone;
  const deleted = " (deleted)";
  const exe = process.exe ?? "";
  const inode = (name: string) => (gone ? null : Number(/\[(\d+)\]$/.exec(namespaces.get(name) ?? "")?.[1]));
  return {
    pid: process.pid,
    parent: stat.ppid,
    name: process.comm,
    path: user ? exe.replace(/ \(deleted\)$/, "") : null,
    on_disk: user ? (exe.endsWith(deleted) ? 0 : 1) : null,
    cmdline: user ? commandLine(process.cmdline) : null,
    uid: uids[0]!,
    euid: uids[1]!,
    suid: uids[2]!,
    gid: gids[0]!,
    egid: gids[1]!,
    sgid: gids[2]!,
    threads: stat.numThreads,
    nice: stat.nice,
    kernel_thread: process.kernelThread ? 1 : 0,
    ...placeOf("cwd", gone ? null : (directories?.cwd ?? null)),
    ...placeOf("root", gone ? null : (directories?.root ?? null)),
    cgroup_path: process.cgroup,
    cgroup_namespace: inode("cgroup"),
    ipc_namespace: inode("ipc"),
    mnt_namespace: inode("mnt"),
    net_namespace: inode("net"),
    uts_namespace: inode("uts"),
  };
}

const TASK_COMM_MAX = 15;

/**
 * Of the kernel's threads /proc tells more than comm: the whole of a long name, and behind that of a worker what it is
 * busy with or was last (fs/proc/array.c: proc_task_name). The column is comm itself.
 */
export function expectedName(row: Row, kernelThread: boolean, was: string, is: string): string {
  if (!kernelThread) return was;
  const name = textIn(row, "name");
  const told = [was, is].every((text) => {
    const rest = text.slice(name.length);
    const worker = name.startsWith("kworker/") && /^[-+]/.test(rest);
    return text.startsWith(name) && (rest === "" || worker || name.length === TASK_COMM_MAX);
  });
  return told ? name : was;
}

function commandLine(raw: Buffer): string {
  const text = raw.toString("latin1").replace(/\0+$/, "").replaceAll("\0", " ");
  return textOf(Buffer.from(text, "latin1"));
}

function isCollector(process: TruthProcess): boolean {
  return process.argv.includes("/lab/control.py");
}

/** A task that did not run between the truths has one state; one that ran may have been caught in another. */
export function assertState(row: Row, was: TruthProcess, is: TruthProcess): void {
  const possible = new Set([was.stat.state, is.stat.state]);
  if (switches(was) !== switches(is)) for (const state of "RSDI") possible.add(state);
  assert.ok(
    possible.has(textIn(row, "state")),
    `state ${textIn(row, "state")} of ${was.pid} (${was.comm}), not ${[...possible]}`,
  );
}

function switches(process: TruthProcess): string {
  return `${process.status.get("voluntary_ctxt_switches")} ${process.status.get("nonvoluntary_ctxt_switches")}`;
}

function assertBetween(value: Cell | undefined, one: number, other: number, row: Row): void {
  const [low, high] = one < other ? [one, other] : [other, one];
  assert.ok(
    typeof value === "number" && value >= low && value <= high,
    `process ${row.pid}: ${value}, not between ${low} and ${high}`,
  );
}

/**
 * Start times, which /proc gives in ticks after a boot whose time it gives in whole seconds: there must be one
 * fraction of a second, the same for all, with which every start time is exactly right.
 */
export function compareStartTimes(rows: readonly { row: Row; stat: Stat }[], truth: Truth): void {
  let low = 0;
  let high = 1;
  for (const { row, stat } of rows) {
    const whole = (row.start_time as number) - truth.bootTime;
    low = Math.max(low, whole - (stat.starttime + 1) / HZ);
    high = Math.min(high, whole + 1 - stat.starttime / HZ);
  }
  assert.ok(low < high, `start times fit no time of boot within its second: ${low} to ${high}`);
}

/** Every thread of the processes that lived through both truths, by process and thread id. */
export function compareThreads(rows: readonly Row[], paired: readonly Paired[]): { row: Row; stat: Stat }[] {
  const byPid = Map.groupBy(rows, (row) => row.pid as number);
  const matched: { row: Row; stat: Stat }[] = [];
  for (const { was, is } of paired) {
    const found = byPid.get(was.pid) ?? [];
    assert.deepEqual(
      found.map((row) => row.tid).sort((a, b) => (a as number) - (b as number)),
      was.threads.map(({ tid }) => tid),
      `threads of ${was.pid} (${was.comm})`,
    );
    was.threads.forEach(({ tid, stat }, i) => {
      const row = found.find((candidate) => candidate.tid === tid)!;
      const later = is.threads[i]!.stat;
      const expectedComm = expectedName(row, was.kernelThread, stat.comm, later.comm);
      const expected = { name: expectedComm, nice: stat.nice, kernel_thread: was.kernelThread ? 1 : 0 };
      const { name, nice, kernel_thread } = row;
      assert.deepEqual({ name, nice, kernel_thread }, expected, `thread ${tid} of ${was.pid}`);
      if (tid === was.pid) assertState(row, was, is);
      else
        assert.ok([stat.state, later.state].includes(textIn(row, "state")), `thread ${tid} is ${textIn(row, "state")}`);
      matched.push({ row, stat });
    });
  }
  return matched;
}

/** Environments, in their order. */
export function compareEnvironments(rows: readonly Row[], paired: readonly Paired[]): number {
  const byPid = Map.groupBy(rows, (row) => row.pid as number);
  let variables = 0;
  for (const { was } of paired) {
    const expected = was.env
      .filter((entry) => entry !== "")
      .map((entry) => {
        const at = entry.indexOf("=");
        return at < 0 ? { key: entry, value: "" } : { key: entry.slice(0, at), value: entry.slice(at + 1) };
      });
    const actual = (byPid.get(was.pid) ?? []).map(({ key, value }) => ({ key, value }));
    assert.deepEqual(actual, expected, `environment of ${was.pid} (${was.comm})`);
    variables += expected.length;
  }
  return variables;
}

/** Where each process is and what its root is, kernel threads too. */
export async function readDirectories(subject: Subject): Promise<Map<number, Directories>> {
  const script = `
import posix
for pid in posix.listdir(b"/proc"):
    if not pid.isdigit(): continue
    try: tids = posix.listdir(b"/proc/" + pid + b"/task")
    except OSError: continue
    for name in (b"/cwd", b"/root"):
        link = b""
        # What the first thread gave up when it ended, others have still.
        for tid in tids:
            try: link = b"=" + posix.readlink(b"/proc/" + pid + b"/task/" + tid + name)
            except OSError: continue
            break
        posix.write(1, pid + name + link + b"\\0")
`;
  const text = await subject.lab.exec(`python3 -I -S -c '${script.replaceAll("'", "")}'`);
  const found = new Map<number, { cwd: string | null; root: string | null }>();
  for (const [, pid, name, link] of text.matchAll(/(\d+)\/(cwd|root)(?:=([^\0]*))?\0/g)) {
    const entry = found.get(Number(pid)) ?? { cwd: null, root: null };
    entry[name as "cwd" | "root"] = link ?? null;
    found.set(Number(pid), entry);
  }
  return found;
}
