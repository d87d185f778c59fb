// kernel_threads against /proc/PID/stat, and the functions of those that sleep against what /proc/PID/stack shows.
import assert from "node:assert/strict";
import { assertState, expectedName } from "../engine/processes.ts";
import { read, type Subject, textIn } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";

/** TASK_COMM_LEN, less the zero at its end. */
const COMM = 15;
/** The function of a thread is what kthread() called; compilers move what is done seldom into a part of its own. */
const CALLED = /(\w[\w.]*?)(?:\.cold)?\+0x\w+\/0x\w+\n\[<0>\] kthread\+/;

/** The function that each kernel thread was made to run, by pid; none of those that are not asleep. */
async function functionsOf(subject: Subject, pids: readonly number[]): Promise<Map<number, string>> {
  const files = await subject.lab.readFiles(pids.map((pid) => `/proc/${pid}/stack`));
  const found = new Map<number, string>();
  for (const [path, file] of files) {
    const name = file.kind === "file" ? CALLED.exec(file.data.toString("latin1"))?.[1] : undefined;
    if (name !== undefined) found.set(Number(path.split("/")[2]), name);
  }
  return found;
}

export const comparison: Comparison = {
  table: "kernel_threads",
  async compare(subject, guest) {
    const before = await subject.lab.truth();
    const rows = read(guest, "kernel_threads");
    const after = await subject.lab.truth();
    const byPid = new Map(rows.map((row) => [row.pid as number, row]));
    const functions = await functionsOf(subject, [...byPid.keys()]);
    let [compared, called] = [0, 0];
    for (const was of before.processes.values()) {
      const { pid, comm, kernelThread } = was;
      const is = after.processes.get(pid);
      if (is === undefined) continue;
      const row = byPid.get(pid);
      assert.equal(row !== undefined, kernelThread, `${pid} ${comm}`);
      if (row === undefined) continue;
      // Of a workqueue's thread for reclaim, older kernels cut the name in /proc.
      const cut = comm.length === COMM && textIn(row, "name").startsWith(comm);
      if (!cut) assert.equal(row.name, expectedName(row, true, comm, is.comm));
      assertState(row, was, is);
      const name = functions.get(pid);
      if (name !== undefined) {
        assert.equal(row.symbol, name, `${pid} ${comm}`);
        called++;
      }
      compared++;
    }
    for (const [pid, { name }] of byPid)
      assert.ok(before.processes.has(pid) || after.processes.has(pid), `${pid} ${name}`);
    for (const cpu of [0, 1]) assert.equal(rows.find(({ name }) => name === `migration/${cpu}`)?.cpu, cpu);
    assert.ok(compared > 30 && called > compared * 0.8, `${compared} threads, ${called} of them with a stack`);
    return `${compared} rows, ${called} functions`;
  },
};
