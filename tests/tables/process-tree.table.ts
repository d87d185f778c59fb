// process_tree against the parents that /proc/PID/stat tells.
import assert from "node:assert/strict";
import { read } from "../engine/support.ts";
import { compareByProcess } from "./by-process.ts";
import type { Comparison } from "./comparison.ts";

export const comparison: Comparison = {
  table: "process_tree",
  async compare(subject, guest) {
    const { rows } = await compareByProcess(
      subject,
      guest,
      "process_tree",
      // /proc adds what a worker of the kernel is at.
      ({ pid, comm, stat }) => ({
        pid,
        parent: stat.ppid,
        name: comm.replace(/^(kworker\/\w+:\w+)[-+].*/, "$1").slice(0, 15),
      }),
      ([row]) => ({ pid: row!.pid as number, parent: row!.parent as number, name: row!.name as string }),
    );
    const tree = read(guest, "process_tree");
    const byPid = new Map(tree.map((row) => [row.pid, row]));
    for (const row of tree) {
      const above = byPid.get(row.parent!);
      const own = String(row.pid).padStart(7, "0");
      assert.equal(row.path, above ? `${above.path}/${own}` : own);
      assert.equal(row.depth, above ? (above.depth as number) + 1 : 0);
      assert.equal(row.children, tree.filter(({ parent }) => parent === row.pid).length);
    }
    // The order is that of the paths.
    assert.deepEqual(
      tree.map(({ path }) => path),
      tree.map(({ path }) => path as string).toSorted(),
    );
    assert.deepEqual([byPid.get(1)?.depth, byPid.get(2)?.depth], [0, 0]);
    return `${rows} rows`;
  },
};
