import assert from "node:assert/strict";
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { PAGE_SIZE } from "../bytes/address.ts";
import { Ram } from "../testing/ram.ts";
import { openMemory } from "./open.ts";
import { PagedMemory, readerOf } from "./paged-memory.ts";

/** As many pages as are kept. */
const SLOTS = 2048;

/** RAM in which each page's first word is its frame number and more. */
function numbered(pages: number): Ram {
  const ram = new Ram([
    [0, pages * PAGE_SIZE],
    [(pages + 8) * PAGE_SIZE, 8 * PAGE_SIZE],
  ]);
  for (let gpa = 0; gpa < ram.end; gpa += PAGE_SIZE) ram.view.setUint32(gpa, gpa / PAGE_SIZE + 7, true);
  return ram;
}

const frameAt = (memory: PagedMemory, gpa: number) => memory.view.getUint32(memory.locate(gpa), true) - 7;

test("every page of RAM can be read, and nothing beside it", () => {
  const ram = numbered(16);
  const memory = ram.paged();
  for (let gfn = 0; gfn < 16; gfn++) assert.equal(frameAt(memory, gfn * PAGE_SIZE), gfn);
  assert.equal(memory.locate(5 * PAGE_SIZE + 9), memory.locate(5 * PAGE_SIZE) + 9);
  for (const gfn of [16, 23, 32, 2 ** 40]) assert.equal(memory.locate(gfn * PAGE_SIZE), -1);
  assert.equal(frameAt(memory, 24 * PAGE_SIZE), 24);
});

test("a page is read once a request: what changes meanwhile is not seen until the copies are dropped", () => {
  const ram = numbered(4);
  const memory = ram.paged();
  assert.equal(frameAt(memory, PAGE_SIZE), 1);
  ram.view.setUint32(PAGE_SIZE, 99 + 7, true);
  assert.equal(frameAt(memory, PAGE_SIZE), 1);
  memory.dropCaches();
  assert.equal(frameAt(memory, PAGE_SIZE), 99);
});

test("slots go round: more pages than there are slots, and an index is good for as many loads", () => {
  const pages = 3 * SLOTS;
  const memory = numbered(pages).paged();
  for (let round = 0; round < 2; round++) {
    for (let gfn = 0; gfn < pages; gfn++) assert.equal(frameAt(memory, gfn * PAGE_SIZE), gfn);
  }
  for (const first of [17, 1000]) {
    const index = memory.locate(first * PAGE_SIZE);
    for (let gfn = 2000; gfn < 2000 + SLOTS - 1; gfn++) assert.equal(frameAt(memory, gfn * PAGE_SIZE), gfn);
    assert.equal(memory.view.getUint32(index, true), first + 7);
    for (const gfn of [2000 + SLOTS, 2001 + SLOTS, first]) assert.equal(frameAt(memory, gfn * PAGE_SIZE), gfn);
  }
});

test("pages whose numbers fall into one bucket are kept apart", () => {
  const pages = 5 * 8192 + 1;
  const ram = new Ram([[0, PAGE_SIZE]]);
  const layout = { ...ram.layout, ranges: [{ gpa: 0, length: pages * PAGE_SIZE, backing: 0, offset: 0 }] };
  let loads = 0;
  const memory = new PagedMemory(layout, (_, target, position) => {
    loads++;
    new DataView(target.buffer, target.byteOffset).setUint32(0, position / PAGE_SIZE + 7, true);
    return target.length;
  });
  for (let round = 0; round < 2; round++) {
    for (const gfn of [3, 8195, 16387, 3, 40963 - 8192]) assert.equal(frameAt(memory, gfn * PAGE_SIZE), gfn);
  }
  assert.equal(loads, 4);
});

test("a page that can't be read is not there, and does not harm the others", () => {
  const ram = numbered(8);
  const memory = ram.paged((gpa) => gpa === 3 * PAGE_SIZE);
  for (let round = 0; round < 2; round++) {
    assert.equal(memory.locate(3 * PAGE_SIZE), -1);
    for (const gfn of [2, 4]) assert.equal(frameAt(memory, gfn * PAGE_SIZE), gfn);
  }
  assert.equal(memory.copy(2 * PAGE_SIZE, 3 * PAGE_SIZE), undefined);
  assert.equal(memory.copy(4 * PAGE_SIZE, 2 * PAGE_SIZE)?.length, 2 * PAGE_SIZE);
});

for (const kind of ["mapped", "paged"] as const) {
  test(`${kind}: contains and copy keep to one range`, () => {
    const ram = numbered(4);
    const memory = ram[kind]();
    assert.equal(memory.contains(0, 4 * PAGE_SIZE), true);
    assert.equal(memory.contains(12 * PAGE_SIZE, 8 * PAGE_SIZE), true);
    assert.equal(memory.contains(0, 4 * PAGE_SIZE + 1), false);
    assert.equal(memory.contains(3 * PAGE_SIZE, 10 * PAGE_SIZE), false);
    assert.equal(memory.contains(5 * PAGE_SIZE, 1), false);
    assert.equal(memory.copy(3 * PAGE_SIZE, 2 * PAGE_SIZE), undefined);
    const copy = memory.copy(12 * PAGE_SIZE, 2 * PAGE_SIZE)!;
    assert.deepEqual(copy, ram.bytes.slice(12 * PAGE_SIZE, 14 * PAGE_SIZE));
    ram.bytes[12 * PAGE_SIZE] = 0xee;
    assert.notEqual(copy[0], 0xee);
  });

  test(`${kind}: a scan sees all RAM in order, or what is populated of it, until it is told to stop`, () => {
    const ram = numbered(4);
    const frames: number[] = [];
    const seen = (stopAt = Number.POSITIVE_INFINITY, populated?: readonly { gpa: number; length: number }[]) => {
      frames.length = 0;
      const memory = populated ? Object.assign(ram[kind](), { layout: { ...ram.layout, populated } }) : ram[kind]();
      memory.scan(3 * PAGE_SIZE, (piece) => {
        assert.ok(piece.length <= 3 * PAGE_SIZE);
        for (let done = 0; done < piece.length; done += PAGE_SIZE) {
          assert.equal(piece.bytes[piece.index + done], piece.view.getUint8(piece.index + done));
          frames.push(piece.view.getUint32(piece.index + done, true) - 7);
          assert.equal(frames.at(-1), (piece.gpa + done) / PAGE_SIZE);
        }
        return frames.length >= stopAt;
      });
      return frames;
    };
    assert.deepEqual(seen(), [0, 1, 2, 3, 12, 13, 14, 15, 16, 17, 18, 19]);
    assert.deepEqual(seen(4), [0, 1, 2, 3]);
    const populated = [
      { gpa: 2 * PAGE_SIZE, length: 11 * PAGE_SIZE },
      { gpa: 19 * PAGE_SIZE, length: 5 * PAGE_SIZE },
    ];
    assert.deepEqual(seen(undefined, populated), [2, 3, 12, 19]);
  });
}

test("files: mapped or read by descriptor, with ranges at other offsets than their addresses", () => {
  const folder = mkdtempSync(join(tmpdir(), "cloudvmi-memory-"));
  const fd = (() => {
    const path = join(folder, "ram");
    writeFileSync(path, Buffer.concat([1, 2, 3].map((value) => Buffer.alloc(PAGE_SIZE, value))));
    return openSync(path, "r");
  })();
  try {
    for (const kind of ["file", "shared", "process"] as const) {
      const ranges = [
        { gpa: 0, length: PAGE_SIZE, backing: 0, offset: 2 * PAGE_SIZE },
        { gpa: 16 * PAGE_SIZE, length: 2 * PAGE_SIZE, backing: 0, offset: 0 },
      ];
      using memory = openMemory({ ranges, backings: [{ kind, fd }] });
      assert.equal(memory.direct, kind !== "process");
      const values = [0, 16, 17].map((gfn) => memory.bytes[memory.locate(gfn * PAGE_SIZE)]);
      assert.deepEqual(values, [3, 1, 2]);
      assert.equal(memory.locate(PAGE_SIZE), -1);
    }
    const target = new Uint8Array(2 * PAGE_SIZE);
    assert.equal(readerOf([{ kind: "process", fd }])(0, target, 2 * PAGE_SIZE), PAGE_SIZE, "the file ends");
    assert.equal(readerOf([{ kind: "process", fd: 1 << 20 }])(0, target, 0), 0, "no such descriptor");
  } finally {
    closeSync(fd);
    rmSync(folder, { recursive: true });
  }
});

test("a layout that makes no sense is refused before it is mapped", () => {
  const backings = [{ kind: "file", fd: -1 }] as const;
  const range = { gpa: 0, length: PAGE_SIZE, backing: 0, offset: 0 };
  for (const ranges of [
    [],
    [{ ...range, gpa: 1 }],
    [{ ...range, length: 100 }],
    [{ ...range, length: 0 }],
    [{ ...range, backing: 1 }],
    [range, range],
    [{ ...range, gpa: PAGE_SIZE }, range],
  ]) {
    assert.throws(() => openMemory({ ranges, backings }), /RAM/);
  }
});
