import assert from "node:assert/strict";
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { addressOf } from "./libc.ts";
import { mapMemory } from "./mapped-memory.ts";

const MIB = 1 << 20;

/** A sparse file with a byte at its begin and one at its end. */
function sparse(length: number): { fd: number; [Symbol.dispose](): void } {
  const folder = mkdtempSync(join(tmpdir(), "cloudvmi-ram-"));
  const fd = openSync(join(folder, "ram"), "w+");
  ftruncateSync(fd, length);
  writeSync(fd, "A", 0);
  writeSync(fd, "Z", length - 1);
  return {
    fd,
    [Symbol.dispose]: () => {
      closeSync(fd);
      rmSync(folder, { recursive: true });
    },
  };
}

for (const [name, length] of [
  ["a small guest", 4 * MIB],
  ["a guest of more than 2 GiB", 2100 * MIB],
  ["an image of more memory than this host has", Math.ceil(totalmem() / MIB) * 2 * MIB],
] as const) {
  test(`${name} is mapped where its addresses say, and given back`, () => {
    using file = sparse(length);
    const hole = MIB;
    const ranges = [
      { gpa: 0, length: MIB, backing: 0, offset: 0 },
      { gpa: MIB + hole, length: length - MIB, backing: 0, offset: MIB },
    ];
    const memory = mapMemory({ ranges, backings: [{ kind: "file", fd: file.fd }] });
    assert.equal(memory.bytes[0], 0x41);
    assert.equal(memory.bytes[MIB + 5], 0, "a hole reads as zeros");
    assert.equal(memory.contains(MIB + 5, 1), false);
    assert.equal(memory.view.getUint8(length + hole - 1), 0x5a);
    const { buffer, byteOffset } = memory.bytes;
    // As huge pages want it.
    if (buffer instanceof SharedArrayBuffer) assert.equal((addressOf(buffer) + BigInt(byteOffset)) % (2n << 20n), 0n);
    memory.bytes[memory.scratch] = 7;
    assert.equal(memory.view.getUint8(memory.scratch), 7);
    memory[Symbol.dispose]();
  });
}
