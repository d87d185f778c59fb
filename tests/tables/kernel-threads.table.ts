// kernel_threads against /proc/PID/stat, and the functions of some that every kernel has.
import assert from "node:assert/strict";
import { read } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";

export const comparison: Comparison = {
  table: "kernel_threads",
  async compare(subject, guest) {
    const before = await subject.lab.truth();
    const rows = read(guest, "kernel_threads");
    const after = await subject.lab.truth();
    const byPid = new Map(rows.map((row) => [row.pid as number, row]));
    let compared = 0;
    for (const { pid, comm, kernelThread } of before.processes.values()) {
      if (!after.processes.has(pid)) continue;
      const row = byPid.get(pid);
      assert.equal(row !== undefined, kernelThread, `${pid} ${comm}`);
      if (row === undefined) continue;
      assert.ok((row.name as string).startsWith(comm.slice(0, 15).split("/")[0]!), `${row.name} is ${comm}`);
      compared++;
    }
    const symbolOf = (name: RegExp) => rows.find((row) => name.test(row.name as string))?.symbol;
    assert.equal(symbolOf(/^ksoftirqd\/0$/), "smpboot_thread_fn");
    assert.equal(symbolOf(/^kworker\/0:/), "worker_thread");
    assert.equal(symbolOf(/^kswapd0$/), "kswapd");
    for (const cpu of [0, 1]) assert.equal(rows.find(({ name }) => name === `migration/${cpu}`)?.cpu, cpu);
    assert.ok(compared > 30, `${compared} threads`);
    return `${compared} rows`;
  },
};
