// process_namespaces against the links of /proc/PID/ns, and NSpid of /proc/PID/status.
import assert from "node:assert/strict";
import type { Row } from "../engine/support.ts";
import { compareByProcess, findByArgument, statusOf } from "./by-process.ts";
import type { Comparison } from "./comparison.ts";

/** Columns by the names of links. */
const COLUMNS = {
  cgroup: "cgroup_namespace",
  ipc: "ipc_namespace",
  mnt: "mnt_namespace",
  net: "net_namespace",
  pid: "pid_namespace",
  pid_for_children: "pid_namespace_for_children",
  time: "time_namespace",
  time_for_children: "time_namespace_for_children",
  user: "user_namespace",
  uts: "uts_namespace",
} as const;

export const comparison: Comparison = {
  table: "process_namespaces",
  async compare(subject, guest) {
    const byPid = new Map<number, Row>();
    const { rows, processes } = await compareByProcess(
      subject,
      guest,
      "process_namespaces",
      (process) => ({
        // Of one that has given its namespaces up /proc shows only those that hang on what it still has.
        links: Object.entries(COLUMNS).map(([name, column]) => [
          column,
          Number(/\[(\d+)\]$/.exec(process.namespaces.get(name) ?? "")?.[1] ?? 0),
        ]),
        id: Number(statusOf(process, "NSpid").split(/\s+/).at(-1)),
      }),
      ([row, ...others], process) => {
        assert.ok(row !== undefined && others.length === 0);
        byPid.set(process.pid, row);
        return {
          links: Object.entries(COLUMNS).map(([name, column]) => [
            column,
            process.namespaces.has(name) ? row[column] : 0,
          ]),
          id: row.pid_in_namespace as number,
        };
      },
    );
    const nested = findByArgument(processes, "namespaced");
    assert.equal(statusOf(nested, "NSpid").split(/\s+/).length, 2);
    assert.equal(byPid.get(nested.pid)?.pid_namespace_level, 1);
    assert.ok(new Set(processes.map(({ namespaces }) => namespaces.get("net"))).size >= 2);
    for (const [pid, row] of byPid) {
      const initial = row.user_namespace === byPid.get(1)!.user_namespace;
      assert.equal(row.user_namespace_level === 0, initial, `process ${pid}`);
    }
    assert.ok([...byPid.values()].some((row) => row.user_namespace_level === 1));
    return `${rows} rows`;
  },
};
