// process_memory_map against /proc/PID/maps.
import assert from "node:assert/strict";
import { exactly } from "../engine/support.ts";
import { compareFiles } from "./by-process.ts";
import type { Comparison } from "./comparison.ts";

const line = /^([0-9a-f]+)-([0-9a-f]+) (\S{4}) ([0-9a-f]+) ([0-9a-f]+):([0-9a-f]+) (\d+) *(.*)$/;
const address = (hex: string) => `0x${hex.padStart(16, "0")}`;
const deletedMark = " (deleted)";

export const comparison: Comparison = {
  table: "process_memory_map",
  async compare(subject, guest) {
    const rows = await compareFiles(subject, guest, "process_memory_map", "maps", (text) =>
      text
        .split("\n")
        .filter((area) => area !== "" && !area.endsWith("[vsyscall]"))
        .map((area) => {
          const [, start, end, permissions, offset, major, minor, inode, shown] = line.exec(area)!;
          const deleted = shown!.endsWith(deletedMark);
          const hasFile = inode !== "0";
          return {
            start: address(start!),
            end: address(end!),
            permissions: permissions!,
            offset: exactly(`0x${offset}`),
            device: `${Number.parseInt(major!, 16)}:${Number.parseInt(minor!, 16)}`,
            inode: Number(inode),
            path: shown === "" ? null : deleted ? shown!.slice(0, -deletedMark.length) : shown!,
            pseudo: !hasFile && shown !== "" ? 1 : 0,
            deleted: hasFile ? Number(deleted) : null,
          };
        }),
    );
    assert.ok(rows.length > 400, `${rows.length} rows`);
    const kinds = new Set(rows.map(({ kind }) => String(kind)));
    assert.deepEqual([...kinds].toSorted(), ["anonymous", "file", "heap", "special", "stack"]);
    const paths = new Set(rows.map(({ path }) => path));
    assert.ok(paths.has("/memfd:mapped") && paths.has("[vdso]") && paths.has("/tmp/.dropper"));
    // On an overlay: of the lower layer, of the upper one, and one that is in neither any more.
    for (const name of ["lower-program", "upper-program", "deleted-program", "library.so"])
      assert.ok(paths.has(`/mnt/overlay/${name}`), name);
    assert.ok(rows.some(({ offset }) => offset === 2n ** 60n));
    // One with more areas than a leaf of the tree has room for.
    const byPid = Map.groupBy(rows, ({ pid }) => pid);
    assert.ok(Math.max(...[...byPid.values()].map((found) => found.length)) > 40);
    return `${rows.length} rows of ${byPid.size} processes`;
  },
};
