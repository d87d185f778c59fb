// Tables with rows of processes against what /proc says of each process before and after the table was read.
import assert from "node:assert/strict";
import type { Truth, TruthProcess } from "../../lab/index.ts";
import type { Guest } from "../../vmi/index.ts";
import { type Row, read, type Subject } from "../engine/support.ts";

/** The processes that were there all the time, with their rows. */
async function withTruth(
  subject: Subject,
  guest: Guest,
  table: string,
): Promise<{ process: TruthProcess; later: TruthProcess; rows: Row[]; before: Truth }[]> {
  const before = await subject.lab.truth();
  const rows = read(guest, table);
  const after = await subject.lab.truth();
  const byPid = Map.groupBy(rows, (row) => row.pid as number);
  const paired = [];
  for (const [pid, process] of before.processes) {
    const later = after.processes.get(pid);
    if (later === undefined || later.stat.starttime !== process.stat.starttime) continue;
    paired.push({ process, later, rows: byPid.get(pid) ?? [], before });
    byPid.delete(pid);
  }
  for (const pid of byPid.keys()) assert.ok(!before.processes.has(pid) || !after.processes.has(pid), `pid ${pid}`);
  assert.ok(paired.length > 40, `${paired.length} processes`);
  return paired;
}

/**
 * Holds each process's rows to what its /proc said, where that was the same before and after.
 * @returns how many rows were compared
 */
export async function compareByProcess<T>(
  subject: Subject,
  guest: Guest,
  table: string,
  expected: (process: TruthProcess) => T,
  actual: (rows: readonly Row[], process: TruthProcess) => T,
): Promise<{ rows: number; processes: TruthProcess[] }> {
  let rows = 0;
  const processes: TruthProcess[] = [];
  for (const { process, later, rows: found } of await withTruth(subject, guest, table)) {
    const was = expected(process);
    try {
      assert.deepEqual(expected(later), was);
    } catch {
      continue;
    }
    assert.deepEqual(actual(found, process), was, `process ${process.pid} (${process.comm})`);
    rows += found.length;
    processes.push(process);
  }
  assert.ok(processes.length > 40, `${processes.length} processes stayed as they were`);
  return { rows, processes };
}

/** A word of /proc/PID/status. */
export function statusOf(process: TruthProcess, key: string): string {
  const value = process.status.get(key);
  assert.ok(value !== undefined, `/proc/${process.pid}/status has no ${key}`);
  return value;
}

/** The process that a program of the workload started, by a word of its arguments. */
export function findByArgument(processes: readonly TruthProcess[], argument: string): TruthProcess {
  const found = processes.find(({ argv }) => argv.includes(argument));
  assert.ok(found, `no process has the argument ${argument}`);
  return found;
}
