import assert from "node:assert/strict";
import { test } from "node:test";
import { fiveLevel, fourLevel } from "../arch/x86-64.ts";
import { Budget } from "../budget.ts";
import { PageTableWriter } from "../testing/page-table-writer.ts";
import { Ram } from "../testing/ram.ts";
import { mappedSpans } from "./mapped-spans.ts";
import { PageTables } from "./page-tables.ts";

const PAGE = 4096;
const USER = 0x5555_0000_0000n;
const KERNEL = 0xffff_ffff_8000_0000n;

for (const mmu of [fourLevel, fiveLevel]) {
  test(`${mmu.name}: pages that follow one another are one, large pages are clipped, PROT_NONE is there`, () => {
    const ram = new Ram([[0, 8 << 20]]);
    const tables = new PageTableWriter(ram, mmu);
    // Two in a row, a hole, one elsewhere in memory.
    tables.map(USER, 0x10_0000);
    tables.map(USER + 0x1000n, 0x10_1000);
    tables.map(USER + 0x3000n, 0x20_0000);
    tables.mapProtNone(USER + 0x4000n, 0x20_1000);
    tables.map(USER + 0x4000_0000n, 0x40_0000, { shift: 21 });
    tables.map(KERNEL, 0x60_0000, { shift: 21 });
    tables.map(-4096n & ((1n << 64n) - 1n), 0x10_2000);
    const spans = (start: bigint, end: bigint, budget = new Budget()) =>
      [...mappedSpans(new PageTables(ram.mapped(), mmu, tables.pgd), start, end, budget)].map(
        ({ address, gpa, length }) => [address, gpa, length / PAGE],
      );
    assert.deepEqual(spans(USER, USER + 0x1_0000n), [
      [USER, 0x10_0000, 2],
      [USER + 0x3000n, 0x20_0000, 2],
    ]);
    assert.deepEqual(spans(USER + 0x1000n, USER + 0x3000n), [[USER + 0x1000n, 0x10_1000, 1]]);
    const large = USER + 0x4000_0000n;
    assert.deepEqual(spans(large + 0x3000n, large + 0x5000n), [[large + 0x3000n, 0x40_3000, 2]]);
    assert.deepEqual(spans(0n, 1n << 47n).length, 3);
    assert.deepEqual(spans(KERNEL, 1n << 64n), [
      [KERNEL, 0x60_0000, 512],
      [0xffff_ffff_ffff_f000n, 0x10_2000, 1],
    ]);
    const budget = new Budget(1000, 100);
    const walkOn = () => {
      for (let i = 0; i < 10; i++) spans(0n, 1n << 47n, budget);
    };
    assert.throws(walkOn, { kind: "over-budget" });
  });
}
