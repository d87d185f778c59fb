import assert from "node:assert/strict";
import { test } from "node:test";
import { bufferReader, type Fault, mockDriver } from "./index.ts";

const layout = {
  ranges: [
    { gpa: 0, length: 8192, backing: 0, offset: 0 },
    { gpa: 0x10000, length: 4096, backing: 0, offset: 8192 },
  ],
  backings: [],
};
const ram = Uint8Array.from({ length: 12_288 }, (_, i) => i >> 12);
const read = bufferReader(ram);

/** The first bytes around the middle of the page at 0x10000, read with a fault. */
function readWith(fault: Fault | undefined) {
  const { memory, accesses } = mockDriver({ layout, read, fault: () => fault });
  const index = memory.locate(0x10000);
  return { index, bytes: index < 0 ? [] : [...memory.bytes.subarray(index + 2046, index + 2050)], accesses };
}

test("reads pass through and are recorded by guest physical address", () => {
  const { memory, accesses } = mockDriver({ layout, read });
  assert.deepEqual([...memory.copy(0x0ffe, 4)!], [0, 0, 1, 1]);
  assert.equal(memory.bytes[memory.locate(0x10003)], 2);
  memory.locate(0x10004);
  assert.deepEqual(accesses, [
    { gpa: 0x0ffe, length: 4, got: 4, fault: undefined },
    { gpa: 0x10000, length: 4096, got: 4096, fault: undefined },
  ]);
});

test("a fault is chosen by address and by how much was read before", () => {
  const asked: number[][] = [];
  const { memory } = mockDriver({
    layout,
    read,
    fault(gpa, length, earlier) {
      asked.push([gpa, length, earlier]);
      return earlier === 1 ? { kind: "missing" } : undefined;
    },
  });
  assert.deepEqual(
    [0, 4096, 0x10000].map((gpa) => memory.locate(gpa) >= 0),
    [true, false, true],
  );
  assert.deepEqual(asked, [
    [0, 4096, 0],
    [4096, 4096, 1],
    [0x10000, 4096, 2],
  ]);
});

test("missing and short: the page can't be had", () => {
  assert.deepEqual(readWith({ kind: "missing" }), {
    index: -1,
    bytes: [],
    accesses: [{ gpa: 0x10000, length: 4096, got: 0, fault: "missing" }],
  });
  const short = readWith({ kind: "short", length: 100 });
  assert.deepEqual([short.index, short.accesses[0]!.got], [-1, 100]);
});

test("changed: altered in place, the memory behind stays", () => {
  const changed = readWith({
    kind: "changed",
    change(bytes, gpa) {
      assert.equal(gpa, 0x10000);
      bytes.fill(9, 2047, 2049);
    },
  });
  assert.deepEqual(changed.bytes, [2, 9, 9, 2]);
  assert.equal(ram[8192 + 2047], 2);
});

test("torn: the front of one instant, the rest of another", () => {
  const later = bufferReader(new Uint8Array(12_288).fill(7));
  assert.deepEqual(readWith({ kind: "torn", at: 2048, later }).bytes, [2, 2, 7, 7]);
});

test("what is no RAM is neither read nor recorded", () => {
  const { memory, accesses } = mockDriver({ layout, read });
  assert.deepEqual([memory.locate(8192), memory.copy(8190, 4), accesses], [-1, undefined, []]);
});
