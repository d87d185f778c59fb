import assert from "node:assert/strict";
import { test } from "node:test";
import { fiveLevel, fourLevel } from "../arch/x86-64.ts";
import { Budget } from "../budget.ts";
import { hiOf, loOf } from "../bytes/address.ts";
import { attach } from "../guest.ts";
import type { Vma } from "../linux/vma.ts";
import { miniGuest } from "../testing/mini-guest.ts";
import { firstCode } from "./own-code.ts";

const halves = (address: bigint) => ({ hi: hiOf(address), lo: loOf(address) });
const area = (start: bigint, end: bigint): Vma => ({
  at: halves(0n),
  start: halves(start),
  end: halves(end),
  flags: 0,
  pageOffset: 0,
  file: undefined,
  mayHaveOwnPages: true,
});

test("a reservation costs what is mapped of it, wherever that is; pages of zeros cost steps", () => {
  for (const mmu of [fourLevel, fiveLevel]) {
    const { kernel: mini, shell } = miniGuest({ mmu });
    const { ram } = mini;
    const [tables, mm] = [shell.tables!, shell.mm!];
    // 1 TiB, with one page of zeros, and code behind it.
    const start = 0x1000_0000_0000n;
    const end = start + (1n << 40n);
    const zeros = ram.take();
    tables.map(start, zeros, { user: true });
    const code = ram.take();
    ram.bytes.set([0x90, 0xc3], code + 0x123);
    tables.map(end - 0x3000n, code, { user: true });
    const { kernel } = attach(ram.mapped());
    const found = firstCode(kernel, halves(mm.va), area(start, end), new Budget(60_000, 20_000));
    assert.deepEqual(found?.at, halves(end - 0x3000n + 0x120n));
    assert.deepEqual([...found!.found.subarray(0, 6)], [0, 0, 0, 0x90, 0xc3, 0]);
    assert.equal(firstCode(kernel, halves(mm.va), area(start, start + 0x1000n), new Budget()), undefined);
    // What is not the lower half is no process's.
    const top = (1n << 64n) - (1n << 40n);
    assert.equal(firstCode(kernel, halves(mm.va), area(top, top + 0x1000n), new Budget()), undefined);
    const endless = () => {
      const budget = new Budget(60_000, 4096);
      for (let i = 0; i < 1000; i++) firstCode(kernel, halves(mm.va), area(start, start + 0x1000n), budget);
    };
    assert.throws(endless, { kind: "over-budget" });
  }
});
