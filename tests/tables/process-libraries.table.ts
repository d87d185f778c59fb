// process_libraries against the executable mappings of /proc/PID/maps; sonames as the files themselves have them.
import assert from "node:assert/strict";
import { compareFiles } from "./by-process.ts";
import type { Comparison } from "./comparison.ts";

const deletedMark = " (deleted)";

export const comparison: Comparison = {
  table: "process_libraries",
  async compare(subject, guest) {
    const rows = await compareFiles(subject, guest, "process_libraries", "maps", (text, { exe }) => {
      const lines = text
        .trimEnd()
        .split("\n")
        .map((line) => /^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ (\d+) *(.*)$/.exec(line) ?? [])
        .filter(([, , , , inode]) => inode !== undefined && inode !== "0");
      return [...Map.groupBy(lines, ([, , , , inode, path]) => `${inode} ${path}`).values()]
        .filter((areas) => areas.some(([, , , permissions]) => permissions![2] === "x"))
        .map((areas) => {
          const [, start, , , inode, path] = areas[0]!;
          const deleted = path!.endsWith(deletedMark);
          return {
            path: deleted ? path!.slice(0, -deletedMark.length) : path!,
            start: `0x${start!.padStart(16, "0")}`,
            size: Number.parseInt(areas.at(-1)![2]!, 16) - Number.parseInt(start!, 16),
            inode: Number(inode),
            deleted: Number(deleted),
            program: Number(exe === path),
          };
        });
    });
    /** A process that never looked at the name has not the page with it. */
    const sonames = (name: string) =>
      new Set(
        rows
          .filter(({ path, soname }) => String(path).endsWith(name) && (soname === null || typeof soname === "string"))
          .map(({ soname }) => soname),
      );
    assert.deepEqual([...sonames("/libc.so.6")], ["libc.so.6"]);
    assert.deepEqual([...sonames("/libz.so.1.2.13")], ["libz.so.1"]);
    assert.deepEqual([...sonames("/ld-linux-x86-64.so.2")], ["ld-linux-x86-64.so.2"]);
    assert.deepEqual([...sonames("/busybox")], [null]);
    const programs = rows.filter(({ program }) => program === 1).map(({ path }) => path);
    for (const name of ["lower", "upper", "deleted"])
      assert.ok(programs.includes(`/mnt/overlay/${name}-program`), `${name} program of an overlay`);
    return `${rows.length} rows`;
  },
};
