// process_threads against /proc/PID/task.
import assert from "node:assert/strict";
import { compareStartTimes, compareThreads } from "../engine/processes.ts";
import { read } from "../engine/support.ts";
import { withTasks } from "./by-process.ts";
import type { Comparison } from "./comparison.ts";

export const comparison: Comparison = {
  table: "process_threads",
  async compare(subject, guest) {
    const { paired, before, rows } = await withTasks(subject, guest, () => read(guest, "process_threads"));
    const threads = compareThreads(rows, paired);
    compareStartTimes(threads, before);
    assert.ok(threads.length > paired.length, "no process has several threads");
    return `${threads.length} rows of ${paired.length} processes`;
  },
};
