// process_limits against /proc/PID/limits.
import assert from "node:assert/strict";
import { read } from "../engine/support.ts";
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
    const rows = read(guest, "process_limits");
    const byPid = Map.groupBy(rows, (row) => row.pid as number);
    const files = await subject.lab.readFiles([...byPid.keys()].map((pid) => `/proc/${pid}/limits`));
    let compared = 0;
    const soft: unknown[] = [];
    for (const [pid, found] of byPid) {
      const file = files.get(`/proc/${pid}/limits`);
      if (file?.kind !== "file") continue;
      const expected = file.data
        .toString("latin1")
        .split("\n")
        .slice(1)
        .filter((line) => line !== "")
        .map((line) => {
          const [low, high, unit = ""] = line.slice(26).trim().split(/\s+/);
          const limit = (text?: string) => (text === "unlimited" ? null : Number(text));
          return { resource: names[line.slice(0, 26).trim()], soft: limit(low), hard: limit(high), unit };
        });
      assert.deepEqual(
        found.map(({ resource, soft: low, hard, unit }) => ({ resource, soft: low, hard, unit })),
        expected,
        `process ${pid}`,
      );
      soft.push(...expected.map((limit) => limit.soft));
      compared += found.length;
    }
    assert.ok(compared > 40 * 16, `${compared} rows`);
    // Set by the workload.
    assert.ok(soft.includes(77) && soft.includes(123_456_789));
    return `${compared} rows`;
  },
};
