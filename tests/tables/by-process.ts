// Tables with rows of processes against what /proc says of each process before and after the table was read.
import assert from "node:assert/strict";
import { type Entry, type Truth, type TruthProcess, textOf } from "../../lab/index.ts";
import type { Guest } from "../../vmi/index.ts";
import { type Paired, pairProcesses } from "../engine/processes.ts";
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

/**
 * Python: the folder of /proc that tells what the threads of a process share, as TruthProcess.folder. /proc/PID of one whose
 * first thread has ended is as empty as that of a zombie.
 */
export const FOLDER_OF = `
import os
def folder_of(pid):
    for tid in sorted(os.listdir('/proc/%s/task' % pid), key=int):
        with open('/proc/%s/task/%s/stat' % (pid, tid)) as stat:
            if stat.read().rpartition(') ')[2][0] not in 'ZX':
                return '/proc/%s' % pid if tid == pid else '/proc/%s/task/%s' % (pid, tid)
    return '/proc/%s' % pid
`;

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

/** The rows of `processes`, each with what /proc said before and after; `others` are read at the same time. */
export async function withTasks(
  subject: Subject,
  guest: Guest,
  others: () => Row[] = () => [],
): Promise<{ paired: Paired[]; before: Truth; after: Truth; rows: Row[] }> {
  const before = await subject.lab.truth();
  const processes = read(guest, "processes");
  const rows = others();
  const after = await subject.lab.truth();
  return { paired: pairProcesses(processes, before, after, () => {}), before, after, rows };
}

/**
 * Holds each process's rows to a file of its folder of /proc (see TruthProcess.folder), where that was the same before and after: also of a process
 * that should have no rows, and no other process may have any.
 * @param expected the rows by the text of the file, which is empty where the process has no such file
 * @returns the rows that were compared
 */
export async function compareFiles(
  subject: Subject,
  guest: Guest,
  table: string,
  file: string,
  expected: (text: string, process: TruthProcess) => Row[],
): Promise<Row[]> {
  const texts = async (processes: ReadonlyMap<number, TruthProcess>) => {
    const paths = [...processes.values()].map(({ folder }) => `${folder}/${file}`);
    const files = await subject.lab.readFiles(paths);
    return new Map(paths.map((path) => [Number(path.split("/")[2]), textOfEntry(files.get(path))]));
  };
  const { processes } = await subject.lab.truth();
  const before = await texts(processes);
  const byPid = Map.groupBy(read(guest, table), (row) => row.pid as number);
  const after = await texts(processes);
  const later = (await subject.lab.truth()).processes;
  const compared: Row[] = [];
  let still = 0;
  for (const [pid, process] of processes) {
    const found = byPid.get(pid) ?? [];
    byPid.delete(pid);
    if (before.get(pid) !== after.get(pid)) continue;
    const wanted = expected(before.get(pid)!, process);
    const columns = Object.keys(wanted[0] ?? {});
    const actual = found.map((row) => Object.fromEntries(columns.map((column) => [column, row[column]!])));
    assert.deepEqual(actual, wanted, `process ${pid} (${process.comm})`);
    compared.push(...found);
    still++;
  }
  const unknown = [...byPid.keys()].filter((pid) => !later.has(pid));
  assert.deepEqual(unknown, [], "of these processes there is nothing in /proc");
  assert.ok(still > processes.size * 0.95, `${still} of ${processes.size} processes stayed as they were`);
  return compared;
}

function textOfEntry(entry: Entry | undefined): string {
  return entry?.kind === "file" ? textOf(entry.data) : "";
}
