import assert from "node:assert/strict";
import { test } from "node:test";
import { fiveLevel, fourLevel } from "../arch/x86-64.ts";
import { hiOf, loOf, PAGE_SIZE } from "../bytes/address.ts";
import { PageTableWriter } from "../testing/page-table-writer.ts";
import { Ram } from "../testing/ram.ts";
import { AddressSpace } from "./address-space.ts";
import { PageTables } from "./page-tables.ts";
import type { PhysicalMemory } from "./physical-memory.ts";

const MEBIBYTE = 1 << 20;
const KERNEL = 0xffff_8880_0000_0000n;

function spaceOf(tables: PageTableWriter, memory: PhysicalMemory = tables.ram.mapped()): AddressSpace {
  return new AddressSpace(memory, tables.mmu, tables.pgd, tables.smeMask);
}

const resolve = (space: AddressSpace, va: bigint) => space.resolve(hiOf(va), loOf(va));
const translate = (space: AddressSpace, va: bigint) => space.translate(hiOf(va), loOf(va));

/** What a borrowed index leads to. */
function borrowed(space: AddressSpace, va: bigint, length: number): Buffer | undefined {
  const index = space.borrow(hiOf(va), loOf(va), length);
  return index < 0 ? undefined : Buffer.from(space.memory.bytes.subarray(index, index + length));
}

for (const mmu of [fourLevel, fiveLevel]) {
  const low = (1n << BigInt(mmu.virtualBits - 1)) - 0x8000_0000n;
  const high = BigInt.asUintN(64, -(1n << BigInt(mmu.virtualBits - 1)));
  for (const shift of [12, 21, 30] as const) {
    test(`${mmu.name}: pages of 2^${shift} bytes at both ends of both halves`, () => {
      const ram = new Ram([[0, 2 * MEBIBYTE]]);
      const tables = new PageTableWriter(ram, mmu);
      const space = spaceOf(tables);
      for (const va of [0n, low, high, 0xffff_ffff_c000_0000n]) {
        assert.equal(resolve(space, va), -1);
        assert.equal(translate(space, va), undefined);
        tables.map(va, 0, { shift });
        for (const offset of [0n, 0xabcn, (1n << BigInt(shift)) - 1n]) {
          const gpa = Number(offset);
          const expected = { gpa, pageSize: 2 ** shift, writable: true, user: false, executable: true };
          assert.deepEqual(translate(space, va + offset), { ...expected, user: false });
          assert.equal(resolve(space, va + offset), gpa < 2 * MEBIBYTE ? gpa : -1);
        }
      }
    });
  }

  test(`${mmu.name}: an address that is not canonical is not mapped, whatever the tables say`, () => {
    const ram = new Ram([[0, MEBIBYTE]]);
    const tables = new PageTableWriter(ram, mmu);
    for (let i = 0; i < 512; i++) ram.setU64(tables.pgd + i * 8, BigInt(tables.pgd) | 7n);
    const space = spaceOf(tables);
    const limit = 1n << BigInt(mmu.virtualBits - 1);
    const top = 1n << 64n;
    for (const va of [0n, limit - 1n, top - limit, top - 1n]) assert.notEqual(resolve(space, va), -1);
    for (const va of [limit, top - limit - 1n, 1n << 63n, limit << 1n]) {
      assert.equal(resolve(space, va), -1);
      assert.equal(translate(space, va), undefined);
    }
  });
}

test("flags of every level count: what one of them refuses is refused", () => {
  const ram = new Ram([[0, MEBIBYTE]]);
  const tables = new PageTableWriter(ram, fourLevel);
  const page = ram.take();
  tables.map(KERNEL, page, { user: true });
  const space = spaceOf(tables);
  assert.deepEqual(translate(space, KERNEL), {
    gpa: page,
    pageSize: 4096,
    writable: true,
    user: true,
    executable: true,
  });
  for (const shift of fourLevel.shifts) {
    const at = tables.entryAt(KERNEL, shift);
    const entry = ram.u64(at);
    ram.setU64(at, entry & ~2n);
    assert.equal(translate(space, KERNEL)?.writable, false);
    ram.setU64(at, entry & ~4n);
    assert.equal(translate(space, KERNEL)?.user, false);
    ram.setU64(at, entry | (1n << 63n));
    assert.equal(translate(space, KERNEL)?.executable, false);
    assert.equal(translate(space, KERNEL)?.gpa, page);
    ram.setU64(at, entry);
  }
});

test("the PAT bit of a large page is no address bit", () => {
  const ram = new Ram([[0, 4 * MEBIBYTE]]);
  const tables = new PageTableWriter(ram, fourLevel);
  tables.setEntry(KERNEL, BigInt(2 * MEBIBYTE) | (1n << 12n) | 0x83n, 21);
  assert.equal(resolve(spaceOf(tables), KERNEL + 5n), 2 * MEBIBYTE + 5);
});

for (const shift of [12, 21, 30] as const) {
  test(`a PROT_NONE page of 2^${shift} bytes can be read, and is not mapped for the processor`, () => {
    for (const smeMask of [0n, 1n << 47n]) {
      const ram = new Ram([[0, 4 * MEBIBYTE]]);
      const tables = new PageTableWriter(ram, fourLevel, { smeMask });
      const gpa = shift === 12 ? 0x3000 : shift === 21 ? 2 * MEBIBYTE : 0;
      tables.mapProtNone(KERNEL, gpa, shift);
      const space = spaceOf(tables);
      assert.equal(resolve(space, KERNEL + 0x123n), gpa + 0x123);
      assert.equal(translate(space, KERNEL), undefined);
    }
  });
}

test("a swap entry is no page", () => {
  const ram = new Ram([[0, MEBIBYTE]]);
  const tables = new PageTableWriter(ram, fourLevel);
  // Bits 7 and 8 are free in swap entries, so that they can't be taken for large or PROT_NONE pages.
  tables.setEntry(KERNEL, 0xffff_ffff_ffff_fe7en, 12);
  assert.equal(resolve(spaceOf(tables), KERNEL), -1);
});

test("the encryption bit is taken out of every entry", () => {
  for (const bit of [47n, 51n]) {
    const ram = new Ram([[0, MEBIBYTE]]);
    const tables = new PageTableWriter(ram, fiveLevel, { smeMask: 1n << bit });
    const page = ram.take();
    tables.map(KERNEL, page);
    assert.equal(resolve(spaceOf(tables), KERNEL), page);
    assert.equal(translate(spaceOf(tables), KERNEL)?.gpa, page);
    const unaware = new AddressSpace(ram.mapped(), fiveLevel, tables.pgd);
    assert.equal(resolve(unaware, KERNEL), -1);
  }
});

test("tables outside RAM, in a hole, and pages there", () => {
  const ram = new Ram([
    [0, 0x10_0000],
    [0x20_0000, 0x10_0000],
  ]);
  for (const missing of [0x18_0000, 0x40_0000, 0x000f_ffff_ffff_f000]) {
    const tables = new PageTableWriter(ram, fourLevel);
    tables.map(KERNEL, missing);
    for (const memory of [ram.mapped(), ram.paged()]) {
      const space = spaceOf(tables, memory);
      assert.equal(resolve(space, KERNEL), -1);
      // The tables' answer stands, RAM or not: it may be a device.
      assert.equal(translate(space, KERNEL)?.gpa, missing);
    }
    for (const shift of [39, 30, 21]) {
      const other = new PageTableWriter(ram, fourLevel);
      other.setEntry(KERNEL, BigInt(missing) | 7n, shift);
      assert.equal(resolve(spaceOf(other), KERNEL), -1);
      assert.equal(translate(spaceOf(other), KERNEL), undefined);
    }
    const outside = new AddressSpace(ram.mapped(), fourLevel, missing);
    assert.equal(resolve(outside, KERNEL), -1);
  }
});

test("a table that refers to itself ends in itself", () => {
  const ram = new Ram([[0, MEBIBYTE]]);
  const tables = new PageTableWriter(ram, fourLevel);
  ram.setU64(tables.pgd + 8 * 256, BigInt(tables.pgd) | 7n);
  const index = 256n;
  const va = BigInt.asUintN(64, BigInt.asIntN(48, (index << 39n) | (index << 30n) | (index << 21n) | (index << 12n)));
  assert.equal(resolve(spaceOf(tables), va), tables.pgd);
});

test("what was translated is remembered until a flush or a switch", () => {
  const ram = new Ram([[0, 4 * MEBIBYTE]]);
  const large = 2 * MEBIBYTE;
  for (const memory of [ram.mapped(), ram.paged()]) {
    const [tables, others] = [new PageTableWriter(ram, fourLevel), new PageTableWriter(ram, fourLevel)];
    const [page, other] = [ram.take(), ram.take()];
    const large1 = KERNEL + BigInt(large);
    tables.map(KERNEL, page);
    tables.map(large1, large, { shift: 21 });
    others.map(KERNEL, other);
    const byte = (index: number) => (index < 0 ? -1 : memory.bytes[index]);
    ram.bytes[page] = 1;
    ram.bytes[other] = 2;
    ram.bytes[large] = 3;
    const space = spaceOf(tables, memory);
    assert.deepEqual([byte(resolve(space, KERNEL)), byte(resolve(space, large1))], [1, 3]);
    tables.setEntry(KERNEL, 0n, 12);
    tables.setEntry(large1, 0n, 21);
    assert.deepEqual([byte(resolve(space, KERNEL)), byte(resolve(space, large1))], [1, 3]);
    memory.dropCaches();
    space.flush();
    assert.deepEqual([byte(resolve(space, KERNEL)), byte(resolve(space, large1))], [-1, -1]);
    space.switchTo(others.pgd);
    assert.deepEqual([byte(resolve(space, KERNEL)), byte(resolve(space, large1))], [2, -1]);
    assert.equal(space.pgd, others.pgd);
  }
});

test("addresses that share a slot of the TLB do not share a translation", () => {
  const ram = new Ram([[0, 8 * MEBIBYTE]]);
  const tables = new PageTableWriter(ram, fourLevel);
  const space = spaceOf(tables);
  // 4 MiB and 512 MiB apart, and 2^32 apart: the same slots of the small, the large, and both, in other halves.
  const small = [0n, 0x40_0000n, 0x1_0000_0000n, 0x1_0040_0000n].map((offset) => KERNEL + 0x5000n + offset);
  const large = [0n, 0x2000_0000n, 0x1_0000_0000n].map((offset) => KERNEL + 0x80_0000n + offset);
  const pages = new Map<bigint, number>();
  for (const va of small) pages.set(va, ram.take());
  for (const va of large) pages.set(va, 2 * MEBIBYTE * (1 + large.indexOf(va)));
  for (const va of small) tables.map(va, pages.get(va)!);
  for (const va of large) tables.map(va, pages.get(va)!, { shift: 21 });
  for (let round = 0; round < 2; round++) {
    for (const [va, gpa] of pages) assert.equal(resolve(space, va), gpa);
  }
});

test("a large page that RAM covers in part can be read in that part only", () => {
  const ram = new Ram([[0, 3 * MEBIBYTE]]);
  const tables = new PageTableWriter(ram, fourLevel);
  tables.map(KERNEL, 2 * MEBIBYTE, { shift: 21 });
  const space = spaceOf(tables);
  assert.equal(resolve(space, KERNEL), 2 * MEBIBYTE);
  assert.equal(resolve(space, KERNEL + BigInt(MEBIBYTE) - 1n), 3 * MEBIBYTE - 1);
  assert.equal(resolve(space, KERNEL + BigInt(MEBIBYTE)), -1);
});

/** Bytes that tell where they are from. */
function pattern(ram: Ram): void {
  for (let gpa = 0; gpa < ram.end; gpa += 2) ram.view.setUint16(gpa, (gpa >> 1) * 31, true);
}

test("borrowing across pages: in place where they are neighbours, a copy where not, nothing where one is missing", () => {
  const ram = new Ram([[0, 4 * MEBIBYTE]]);
  pattern(ram);
  const tables = new PageTableWriter(ram, fourLevel);
  const pages = [10, 11, 14, 12, 13].map((gfn) => MEBIBYTE + gfn * PAGE_SIZE);
  pages.forEach((gpa, i) => {
    tables.map(KERNEL + BigInt(i * PAGE_SIZE), gpa);
  });
  const flat = Buffer.concat(pages.map((gpa) => ram.bytes.slice(gpa, gpa + PAGE_SIZE)));
  for (const memory of [ram.mapped(), ram.paged()]) {
    const space = spaceOf(tables, memory);
    for (const [start, length] of [
      [0, PAGE_SIZE],
      [PAGE_SIZE - 1, 2],
      [PAGE_SIZE - 8, 16],
      [2 * PAGE_SIZE - 4, 8],
      [100, 3 * PAGE_SIZE],
      [3 * PAGE_SIZE + 1, 2 * PAGE_SIZE - 1],
    ] as const) {
      assert.deepEqual(borrowed(space, KERNEL + BigInt(start), length), flat.subarray(start, start + length));
    }
    assert.equal(borrowed(space, KERNEL + BigInt(5 * PAGE_SIZE - 4), 8), undefined);
    assert.equal(borrowed(space, KERNEL - 4n, 8), undefined);
  }
  const mapped = spaceOf(tables);
  assert.equal(mapped.borrow(hiOf(KERNEL), loOf(KERNEL), 2 * PAGE_SIZE), pages[0], "neighbours are not copied");
});

test("borrowing across the border of large pages, neighbours and not", () => {
  const ram = new Ram([[0, 8 * MEBIBYTE]]);
  pattern(ram);
  const tables = new PageTableWriter(ram, fourLevel);
  const large = 2 * MEBIBYTE;
  const order = [1, 2, 1];
  order.forEach((n, i) => {
    tables.map(KERNEL + BigInt(i * large), n * large, { shift: 21 });
  });
  const flat = Buffer.concat(order.map((n) => ram.bytes.slice(n * large, (n + 1) * large)));
  for (const memory of [ram.mapped(), ram.paged()]) {
    const space = spaceOf(tables, memory);
    for (const start of [large - 5, 2 * large - 5, large - PAGE_SIZE - 5]) {
      const length = 2 * PAGE_SIZE + 10;
      assert.deepEqual(borrowed(space, KERNEL + BigInt(start), length), flat.subarray(start, start + length));
    }
  }
});

test("what is borrowed across pages stays good beside what is borrowed next", () => {
  const ram = new Ram([[0, 2 * MEBIBYTE]]);
  pattern(ram);
  const tables = new PageTableWriter(ram, fourLevel);
  const pages = [20, 18, 16, 14];
  pages.forEach((gfn, i) => {
    tables.map(KERNEL + BigInt(i * PAGE_SIZE), gfn * PAGE_SIZE);
  });
  for (const memory of [ram.mapped(), ram.paged()]) {
    const space = spaceOf(tables, memory);
    const indexes = [0, 1, 2].map((i) => {
      const va = KERNEL + BigInt((i + 1) * PAGE_SIZE - 3);
      return space.borrow(hiOf(va), loOf(va), 6);
    });
    indexes.forEach((index, i) => {
      const expected = [
        ...ram.bytes.subarray((pages[i]! + 1) * PAGE_SIZE - 3, (pages[i]! + 1) * PAGE_SIZE),
        ...ram.bytes.subarray(pages[i + 1]! * PAGE_SIZE, pages[i + 1]! * PAGE_SIZE + 3),
      ];
      assert.deepEqual([...memory.bytes.subarray(index, index + 6)], expected);
    });
  }
});

test("read copies up to the first page that is missing", () => {
  const ram = new Ram([[0, MEBIBYTE]]);
  pattern(ram);
  const tables = new PageTableWriter(ram, fourLevel);
  const [second, first] = [ram.take(), ram.take()];
  tables.map(KERNEL, first);
  tables.map(KERNEL + BigInt(PAGE_SIZE), second);
  const space = spaceOf(tables);
  const target = new Uint8Array(3 * PAGE_SIZE);
  const from = KERNEL + 100n;
  assert.equal(space.read(hiOf(from), loOf(from), target), 2 * PAGE_SIZE - 100);
  assert.deepEqual(target.subarray(0, PAGE_SIZE - 100), ram.bytes.slice(first + 100, first + PAGE_SIZE));
  assert.deepEqual(target.subarray(PAGE_SIZE - 100, 2 * PAGE_SIZE - 100), ram.bytes.slice(second, second + PAGE_SIZE));
});

test("CR3 selects the tables, PCID and encryption bit left out", () => {
  const smeMask = 1n << 47n;
  const ram = new Ram([[0, MEBIBYTE]]);
  const tables = new PageTableWriter(ram, fourLevel, { smeMask });
  tables.map(KERNEL, 0x5000);
  const cr3 = BigInt(tables.pgd) | 0xfffn | smeMask | (1n << 63n);
  assert.equal(PageTables.ofCr3(ram.mapped(), fourLevel, cr3, smeMask).locate(hiOf(KERNEL), loOf(KERNEL), 8), 0x5000);
});
