// cgroups against the tree of /sys/fs/cgroup.
import assert from "node:assert/strict";
import { read, textIn } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";

/** Of each group one line: path, inode, controllers, subtree_control, type, processes, frozen; separated by tabs. */
const SCRIPT = `
cd /sys/fs/cgroup
find . -type d | while read -r d; do
  p="\${d#.}"
  printf '%s\\t%s\\t%s\\t%s\\t%s\\t%s\\t%s\\n' "\${p:-/}" "$(stat -c %i "$d")" "$(cat "$d/cgroup.controllers")" "$(cat "$d/cgroup.subtree_control")" \\
    "$(cat "$d/cgroup.type" 2>/dev/null)" "$(cat "$d/cgroup.procs" 2>/dev/null | wc -l)" "$(grep -c 'frozen 1' "$d/cgroup.events" 2>/dev/null)"
done`;

export const comparison: Comparison = {
  table: "cgroups",
  async compare(subject, guest) {
    const told = (await subject.lab.exec(SCRIPT))
      .trimEnd()
      .split("\n")
      .map((line) => line.split("\t"));
    const all = read(guest, "cgroups");
    const { processes } = await subject.lab.truth();
    const rows = all.filter((row) => row.dying === 0);
    assert.deepEqual(rows.map((row) => row.path).sort(), told.map(([path]) => path).sort());
    const inRoot = [...processes.values()].filter(({ cgroup, ended }) => cgroup === "/" && !ended).length;
    for (const [path = "", inode, controllers, subtree, type, procs, frozen] of told) {
      const row = rows.find((candidate) => candidate.path === path)!;
      const isRoot = path === "/";
      assert.equal(row.id, Number(inode), path);
      assert.equal(row.controllers, controllers, path);
      assert.equal(row.subtree_control, subtree, path);
      assert.equal(row.threaded, type === "threaded" ? 1 : 0, path);
      // The lines of a threaded group are its domain's; the root has the processes that told all this.
      if (type !== "threaded") assert.equal(row.processes, isRoot ? inRoot : Number(procs), path);
      if (!isRoot) assert.equal(row.frozen, Number(frozen), path);
    }
    const box = rows.find((row) => row.path === "/lab.slice/box");
    assert.ok(Number(box?.processes) >= 2);
    assert.ok(rows.some((row) => row.threaded === 1 && row.path === "/sys.slice/threads/pool"));
    assert.ok(rows.some((row) => row.frozen === 1));
    assert.ok(textIn(rows.find((row) => row.path === "/sys.slice")!, "controllers").includes("pids"));
    assert.deepEqual(
      read(guest, "cgroups", { where: [{ column: "path", values: ["/lab.slice/box"] }] }),
      all.filter((row) => row.path === "/lab.slice/box"),
    );
    return `${rows.length} rows`;
  },
};
