// process_limits against /proc/PID/limits.
import assert from "node:assert/strict";
import { exactly } from "../engine/support.ts";
import { compareFiles } from "./by-process.ts";
import type { Comparison } from "./comparison.ts";

/** The names of /proc/PID/limits (fs/proc/base.c: lnames) in the table's words. */
const names: Record<string, string> = {
  "Max cpu time": "cpu",
  "Max file size": "fsize",
  "Max data size": "data",
  "Max stack size": "stack",
  "Max core file size": "core",
  "Max resident set": "rss",
  "Max processes": "nproc",
  "Max open files": "nofile",
  "Max locked memory": "memlock",
  "Max address space": "as",
  "Max file locks": "locks",
  "Max pending signals": "sigpending",
  "Max msgqueue size": "msgqueue",
  "Max nice priority": "nice",
  "Max realtime priority": "rtprio",
  "Max realtime timeout": "rttime",
};

export const comparison: Comparison = {
  table: "process_limits",
  async compare(subject, guest) {
    const rows = await compareFiles(subject, guest, "process_limits", "limits", (text) =>
      text
        .split("\n")
        .slice(1)
        .filter((line) => line !== "")
        .map((line) => {
          const [low, high, unit = ""] = line.slice(26).trim().split(/\s+/);
          const limit = (value?: string) => (value === "unlimited" ? null : exactly(value!));
          return { resource: names[line.slice(0, 26).trim()]!, soft: limit(low), hard: limit(high), unit };
        }),
    );
    assert.ok(rows.length > 60 * 16, `${rows.length} rows`);
    // Set by the workload.
    const soft = rows.map((row) => row.soft);
    assert.ok(soft.includes(77) && soft.includes(123_456_789) && soft.includes(2n ** 62n + 1n));
    return `${rows.length} rows`;
  },
};
