// process_envs against /proc/PID/environ.
import assert from "node:assert/strict";
import { compareEnvironments } from "../engine/processes.ts";
import { read } from "../engine/support.ts";
import { withTasks } from "./by-process.ts";
import type { Comparison } from "./comparison.ts";

export const comparison: Comparison = {
  table: "process_envs",
  async compare(subject, guest) {
    const { paired, rows } = await withTasks(subject, guest, () => read(guest, "process_envs"));
    const variables = compareEnvironments(rows, paired);
    const pids = new Set(paired.map(({ was }) => was.pid));
    for (const { pid, key } of rows) assert.ok(pids.has(pid as number), `${key} of process ${pid}, which there is not`);
    assert.ok(variables > 60 && rows.some(({ key, value }) => key === "LONG" && String(value).length === 9000));
    return `${variables} rows`;
  },
};
