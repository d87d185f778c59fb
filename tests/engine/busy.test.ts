// A guest in which processes start and end all the time: hundreds of reads, and never a row that could not have been.
import assert from "node:assert/strict";
import { after, before, suite, type TestContext, test } from "node:test";
import { setImmediate as breathe, setTimeout as sleep } from "node:timers/promises";
import { type GuestSpec, type Truth, type TruthProcess, textOf } from "../../lab/index.ts";
import type { Guest } from "../../vmi/index.ts";
import { type Row, read, rowsOf, Subject, textIn } from "./support.ts";

const READS = 300;
const columns = ["pid", "parent", "name", "cmdline", "path", "uid", "start_time", "state", "threads", "kernel_thread"];

const variants: GuestSpec[] = [
  { kernel: "6.12", la57: false, ram: "memfd", vcpus: 2, workload: "churn" },
  { kernel: "6.1", la57: true, ram: "anonymous", vcpus: 2, workload: "churn" },
];

suite("busy guests", { concurrency: 2 }, () => {
  for (const spec of variants) {
    suite(`Linux ${spec.kernel}, ${spec.ram}`, { concurrency: 1 }, () => checks(spec));
  }
});

function checks(spec: GuestSpec): void {
  let subject: Subject;
  let guest: Guest;
  let history: History;

  before(async () => {
    subject = await Subject.boot(spec);
    // More of it than the lab's own: without a pause, in several processes at once.
    const loop = "while :; do /bin/true; (exit 0) & done";
    for (let i = 0; i < 3; i++) await subject.lab.exec(`(${loop}) >/dev/null 2>&1 &`);
    guest = await subject.attach();
    const earlier = await subject.lab.truth();
    await sleep(1500);
    history = new History(earlier, await subject.lab.truth());
  });
  after(() => subject?.[Symbol.asyncDispose]());

  test("every row is one that the guest could have", async (t: TestContext) => {
    let [retried, incomplete, passing] = [0, 0, 0];
    const seen = new Set<string>();
    for (let i = 0; i < READS; i++) {
      const answer = guest.table("processes", { columns });
      retried += answer.retried;
      incomplete += answer.incomplete ? 1 : 0;
      const rows = rowsOf(answer);
      passing += history.check(rows, answer.incomplete);
      for (const row of rows) seen.add(`${row.pid} ${textIn(row, "name")}`);
      // The processor is shared with the guest.
      await (i % 10 === 0 ? sleep(5) : breathe());
    }
    t.diagnostic(`${seen.size} processes in ${READS} reads, ${passing} rows of short-lived ones`);
    t.diagnostic(`${retried} begun anew, ${incomplete} incomplete, ${history.unreadable} command lines unreadable`);
    assert.ok(history.unreadable <= READS / 10, `${history.unreadable} unreadable`);
    assert.ok(incomplete <= READS / 10, `${incomplete} incomplete`);
    assert.ok(seen.size > history.lasting + 20, "too little came and went for a test");
  });

  test("threads and environments too", () => {
    for (let i = 0; i < 50; i++) {
      const pids = new Set<string>();
      for (const { tid, pid, name } of read(guest, "process_threads", { columns: ["pid", "tid", "name"] })) {
        assert.ok(!pids.has(`${tid}`), `thread ${tid} of ${pid} (${name}) is there twice`);
        pids.add(`${tid}`);
      }
      for (const row of read(guest, "process_envs")) assert.match(textIn(row, "key"), /^[A-Za-z_]\w*$/);
    }
  });
}

/** The processes that live as long as the guest, and what all others may be. */
class History {
  readonly #lasting: ReadonlyMap<number, Row>;
  #unreadable = 0;

  constructor(earlier: Truth, later: Truth) {
    const both = [...earlier.processes.values()].filter((was) => {
      const is = later.processes.get(was.pid);
      return (
        is?.stat.starttime === was.stat.starttime &&
        is.comm === was.comm &&
        !(was.kernelThread && was.comm.startsWith("kworker/"))
      );
    });
    this.#lasting = new Map(both.map((process) => [process.pid, fixedOf(process)]));
  }

  get lasting(): number {
    return this.#lasting.size;
  }

  /** Command lines of lasting processes that were not in memory when they were looked for. */
  get unreadable(): number {
    return this.#unreadable;
  }

  /** Returns how many rows are of processes that come and go. */
  check(rows: readonly Row[], incomplete: boolean): number {
    const byPid = new Map(rows.map((row) => [row.pid as number, row]));
    assert.equal(byPid.size, rows.length, "a pid has two rows");
    if (!incomplete) {
      for (const [pid, { name }] of this.#lasting) assert.ok(byPid.has(pid), `process ${pid} (${name}) is missing`);
    }
    // Ids are given out in turn, and are far from starting anew: who has a higher one started later.
    let last = 0;
    for (const row of rows.toSorted((a, b) => (a.pid as number) - (b.pid as number))) {
      const start = row.start_time as number;
      assert.ok(start >= last - 1, `process ${row.pid} started at ${start}, one before it at ${last}`);
      last = start;
    }
    return rows.filter((row) => this.#checkRow(row)).length;
  }

  #checkRow(row: Row): boolean {
    const what = JSON.stringify(row);
    assert.match(textIn(row, "state"), /^[RSDTtZXPI]$/, what);
    const known = this.#lasting.get(row.pid as number);
    if (known !== undefined) {
      const fixed = Object.fromEntries(Object.keys(known).map((column) => [column, row[column]!]));
      if (row.kernel_thread === 1) assert.ok(textIn(known, "name").startsWith(textIn(row, "name")), what);
      else {
        // While a page is copied on write, its page table entry is cleared for a moment.
        if (typeof fixed.cmdline === "object" && fixed.cmdline !== null) this.#unreadable++;
        else assert.equal(fixed.cmdline, known.cmdline, what);
        assert.deepEqual({ ...fixed, cmdline: "" }, { ...known, cmdline: "" });
      }
      return false;
    }
    if (row.kernel_thread === 1) {
      assert.match(textIn(row, "name"), /^kworker\//, what);
      return false;
    }
    // What comes and goes is what the workload starts; between fork and exec it is still the shell or Python.
    assert.match(textIn(row, "name"), /^(?:true|sh|busybox|python3)$/, what);
    // Of one that has just ended, memory may be gone; what is there must be its own: each parent starts other commands.
    const parent = this.#lasting.get(row.parent as number);
    assert.ok(parent, what);
    if (typeof row.path === "string") assert.match(row.path, /^\/(?:bin\/busybox|usr\/bin\/python3\.\d+)$/, what);
    if (typeof row.cmdline === "string") assert.match(row.cmdline, commandsOf(textIn(parent, "cmdline")), what);
    // One that is being reaped has given up its credentials too.
    assert.ok(row.uid === 0 || (row.state === "X" && typeof row.uid === "object"), what);
    assert.ok(row.threads === 0 || row.threads === 1, what);
    return true;
  }
}

/** Command lines that a parent's children can have; none while they are being started. */
function commandsOf(parent: string): RegExp {
  return parent.startsWith("sh -c (while")
    ? /^(?:|\/bin\/true|sh -c \(while .*)$/
    : /^(?:|true \d+|usleep 300000|python3 -I -S \/lab\/workload\.py)$/;
}

/** What never changes of a process that does nothing new. */
function fixedOf({ pid, comm, stat, uids, exe, cmdline, kernelThread }: TruthProcess): Row {
  const user = !kernelThread && stat.state !== "Z";
  return {
    pid,
    parent: stat.ppid,
    name: comm,
    path: user ? exe!.replace(/ \(deleted\)$/, "") : null,
    cmdline: user ? textOf(cmdline).replace(/\0+$/, "").replaceAll("\0", " ") : null,
    uid: uids[0]!,
    threads: stat.numThreads,
    kernel_thread: kernelThread ? 1 : 0,
  };
}
