// deleted_executables against /proc/PID/exe, or that of the next thread where the first has ended (TruthProcess.folder).
import assert from "node:assert/strict";
import { read } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";

export const comparison: Comparison = {
  table: "deleted_executables",
  async compare(subject, guest) {
    const { processes } = await subject.lab.truth();
    const rows = read(guest, "deleted_executables");
    const mark = " (deleted)";
    const expected = [...processes.values()]
      .filter(({ exe }) => exe?.endsWith(mark))
      .map(({ pid, comm, exe }) => ({ pid, name: comm, path: exe!.slice(0, -mark.length) }));
    assert.deepEqual(
      rows.map(({ pid, name, path }) => ({ pid, name, path })),
      expected,
    );
    const output = await subject.lab.exec(
      expected.map(({ pid }) => `stat -L -c '%i %s' ${processes.get(pid)!.folder}/exe`).join("; "),
    );
    assert.deepEqual(
      rows.map(({ inode, size }) => `${inode} ${size}`),
      output.trimEnd().split("\n"),
    );
    // Whole in memory: all were just written there.
    for (const { size, cached_pages } of rows) assert.equal(cached_pages, Math.ceil((size as number) / 4096));
    assert.deepEqual(rows.map(({ path, in_memory }) => [path, in_memory]).toSorted(), [
      ["/memfd:payload", 1],
      // Its pages are those of the file in the upper layer.
      ["/mnt/overlay/deleted-program", 0],
      ["/tmp/.dropper", 0],
      ["/tmp/.headless", 0],
    ]);
    return `${rows.length} rows`;
  },
};
