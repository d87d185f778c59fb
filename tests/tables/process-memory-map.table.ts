// process_memory_map against /proc/PID/maps.
import assert from "node:assert/strict";
import { textOf } from "../../lab/index.ts";
import { read } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";

const line = /^([0-9a-f]+)-([0-9a-f]+) (\S{4}) ([0-9a-f]+) ([0-9a-f]+):([0-9a-f]+) (\d+) *(.*)$/;
const address = (hex: string) => `0x${hex.padStart(16, "0")}`;
const deletedMark = " (deleted)";

export const comparison: Comparison = {
  table: "process_memory_map",
  async compare(subject, guest) {
    const rows = read(guest, "process_memory_map");
    const byPid = Map.groupBy(rows, (row) => row.pid as number);
    const files = await subject.lab.readFiles([...byPid.keys()].map((pid) => `/proc/${pid}/maps`));
    const seen = new Set<string>();
    let compared = 0;
    for (const [pid, found] of byPid) {
      const file = files.get(`/proc/${pid}/maps`);
      if (file?.kind !== "file") continue;
      const expected = textOf(file.data)
        .split("\n")
        .filter((text) => text !== "" && !text.endsWith("[vsyscall]"))
        .map((text) => {
          const [, start, end, permissions, offset, major, minor, inode, shown] = line.exec(text)!;
          const deleted = shown!.endsWith(deletedMark);
          const hasFile = inode !== "0";
          return {
            start: address(start!),
            end: address(end!),
            permissions,
            offset: Number.parseInt(offset!, 16),
            device: `${Number.parseInt(major!, 16)}:${Number.parseInt(minor!, 16)}`,
            inode: Number(inode),
            path: shown === "" ? null : deleted ? shown!.slice(0, -deletedMark.length) : shown,
            pseudo: !hasFile && shown !== "" ? 1 : 0,
            deleted: hasFile ? Number(deleted) : null,
          };
        });
      assert.deepEqual(
        found.map(({ pid: _, kind, ...row }) => {
          seen.add(kind as string);
          return row;
        }),
        expected,
        `process ${pid}`,
      );
      compared += found.length;
    }
    assert.ok(compared > 200, `${compared} rows`);
    assert.deepEqual([...seen].toSorted(), ["anonymous", "file", "heap", "special", "stack"]);
    const paths = new Set(rows.map(({ path }) => path));
    assert.ok(paths.has("/memfd:mapped") && paths.has("[vdso]") && paths.has("/tmp/.dropper"));
    // One with more areas than a leaf of the tree has room for.
    assert.ok(Math.max(...[...byPid.values()].map((found) => found.length)) > 40);
    return `${compared} rows of ${byPid.size} processes`;
  },
};
