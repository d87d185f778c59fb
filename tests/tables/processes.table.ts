// processes against what /proc/PID says of each before and after.
import assert from "node:assert/strict";
import { compareProcesses, compareStartTimes, readDirectories } from "../engine/processes.ts";
import { withTasks } from "./by-process.ts";
import type { Comparison } from "./comparison.ts";

export const comparison: Comparison = {
  table: "processes",
  async compare(subject, guest) {
    const directories = await readDirectories(subject);
    const { paired, before } = await withTasks(subject, guest);
    compareProcesses(paired, directories, () => {});
    compareStartTimes(
      paired.map(({ row, was }) => ({ row, stat: was.stat })),
      before,
    );
    const states = new Set(paired.map(({ row }) => row.state));
    for (const state of ["S", "T", "t", "Z", "I"]) assert.ok(states.has(state), `no process is ${state}`);
    assert.ok(paired.some(({ row }) => row.on_disk === 0) && paired.some(({ row }) => row.uid !== row.euid));
    return `${paired.length} rows`;
  },
};
