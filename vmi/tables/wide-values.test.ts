// Values that no number holds exactly, which a guest may set as it likes.
import assert from "node:assert/strict";
import { test } from "node:test";
import { attach } from "../guest.ts";
import { miniGuest } from "../testing/mini-guest.ts";
import { rowsOf } from "../testing/rows.ts";

const SIZE = 2n ** 62n + 12_345n;

test("sizes, places in files and limits beyond 2^53 are exact, and told from those near them", () => {
  const { kernel, files, shell } = miniGuest();
  files.inode.setAll({ i_size: SIZE, i_ino: 2n ** 53n + 1n });
  const signal = kernel.readPointer(shell.task.at("signal"));
  const limits = signal + BigInt(kernel.types.of.signal_struct!.members.get("rlim")!.offset);
  for (const [i, limit] of [2n ** 53n + 1n, 2n ** 62n, 2n ** 64n - 1n, 2n ** 63n + 5n].entries()) {
    kernel.writeInteger(limits + BigInt(i * 8), limit, 8);
  }
  for (const guest of [attach(kernel.ram.mapped()), attach(kernel.ram.paged())]) {
    const read = (table: string, columns: string[], column: string, value: string) =>
      rowsOf(guest.table(table, { columns, where: [{ column, values: [value] }] }));
    const motd = { path: "/etc/motd", size: SIZE, inode: 2n ** 53n + 1n };
    const columns = Object.keys(motd);
    assert.deepEqual(read("page_cache_files", columns, "path", "/etc/motd"), [motd]);
    assert.deepEqual(read("page_cache_files", columns, "inode", String(2n ** 53n + 1n)), [motd]);
    assert.deepEqual(read("page_cache_files", columns, "inode", String(2n ** 53n)), []);
    assert.deepEqual(read("page_cache_files", columns, "size", String(SIZE)), [motd]);
    assert.deepEqual(read("page_cache_files", columns, "size", String(SIZE - 1n)), []);
    const pieces = read("file_contents", ["offset", "length", "present"], "path", "/etc/motd");
    assert.deepEqual(pieces.at(-1), { offset: 3 * 4096, length: SIZE - 3n * 4096n, present: 0 });
    assert.deepEqual(
      read("process_open_files", ["size"], "path", "/etc/motd").map(({ size }) => size),
      [SIZE],
    );
    const [cpu, fsize] = read("process_limits", ["soft", "hard"], "pid", "300");
    const none = { absent: "notApplicable" };
    assert.deepEqual([cpu!.soft, cpu!.hard, fsize!.soft, fsize!.hard], [2n ** 53n + 1n, 2n ** 62n, none, none]);
  }
});
