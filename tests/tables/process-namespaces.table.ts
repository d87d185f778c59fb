// process_namespaces against the links of /proc/PID/ns, and NSpid of /proc/PID/status.
import assert from "node:assert/strict";
import { compareByProcess, findByArgument, statusOf } from "./by-process.ts";
import type { Comparison } from "./comparison.ts";

/** The link names by type, as `type:[inode]`; those for children are of the type without that. */
const linked = (type: string, inode: number) => `${type.replace(/_for_children$/, "")}:[${inode}]`;

export const comparison: Comparison = {
  table: "process_namespaces",
  async compare(subject, guest) {
    const { rows, processes } = await compareByProcess(
      subject,
      guest,
      "process_namespaces",
      (process) => ({
        links: Object.fromEntries([...process.namespaces].toSorted()),
        number: Number(statusOf(process, "NSpid").split(/\s+/).at(-1)),
      }),
      (found) => ({
        links: Object.fromEntries(
          found
            .map((row) => [row.type as string, linked(row.type as string, row.inode as number)] as const)
            .toSorted(([a], [b]) => (a < b ? -1 : 1)),
        ),
        number: found.find(({ type }) => type === "pid")?.number as number,
      }),
    );
    const nested = findByArgument(processes, "namespaced");
    assert.equal(statusOf(nested, "NSpid").split(/\s+/).length, 2);
    assert.ok(new Set(processes.map(({ namespaces }) => namespaces.get("net"))).size >= 2);
    return `${rows} rows`;
  },
};
