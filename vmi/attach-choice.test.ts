import assert from "node:assert/strict";
import { test } from "node:test";
import { fiveLevel } from "./arch/x86-64.ts";
import { PAGE_SIZE } from "./bytes/address.ts";
import { attach } from "./guest.ts";
import { miniGuest } from "./testing/mini-guest.ts";
import type { MiniKernel } from "./testing/mini-kernel.ts";
import { Ram } from "./testing/ram.ts";

/** Two kernels in one RAM, as after a reboot that left the first one's memory alone. */
function two(first: number, second: number, release = "6.13.0-mini"): [MiniKernel, MiniKernel] {
  const ram = new Ram([[0, 24 << 20]]);
  const kernels = [
    miniGuest({ clock: first, kaslr: 0x200_0000n }, ram).kernel,
    miniGuest({ clock: second, release, mmu: fiveLevel }, ram).kernel,
  ] as const;
  return [...kernels];
}

test("of two kernels that agree with themselves the one whose clock is latest runs", () => {
  for (const [first, second] of [
    [1_700_000_000, 1_700_000_100],
    [1_700_000_100, 1_700_000_000],
  ] as const) {
    for (const release of ["6.13.0-mini", "6.14.0-other"]) {
      const [one, other] = two(first, second, release);
      for (const memory of [one.ram.mapped(), one.ram.paged()]) {
        const guest = attach(memory);
        assert.equal(guest.kernel.space.pgd, (first > second ? one : other).tables.pgd);
        assert.equal(guest.kernel.space.mmu, (first > second ? one : other).tables.mmu);
      }
    }
  }
});

test("registers decide, whatever the clocks say", () => {
  for (const [first, second] of [
    [1_700_000_000, 1_700_000_100],
    [1_700_000_100, 1_700_000_000],
  ] as const) {
    for (const kernel of two(first, second)) {
      const idle = { index: 1, registers: { cr0: 0x6000_0010n, cr3: 0n, cr4: 0n } };
      const guest = attach(kernel.ram.mapped(), { registers: [idle, kernel.registers()] });
      assert.equal(guest.kernel.space.pgd, kernel.tables.pgd);
    }
  }
});

test("registers that run neither: none of them runs", () => {
  const [one, other] = two(1, 2);
  const absent = { cr0: 0x8000_0011n, cr3: 0x10_0000n, cr4: 0n };
  const wrongDepth = { ...one.registers().registers, cr4: 1n << 12n };
  const pagingOff = { ...one.registers().registers, cr0: 0x11n };
  for (const registers of [absent, wrongDepth, pagingOff, {}]) {
    const attempt = () => attach(other.ram.mapped(), { registers: [{ index: 0, registers }] });
    assert.throws(attempt, { kind: "not-running", message: /no vCPU runs it/ });
  }
});

test("a vCPU in user mode under PTI, with a PCID, and one whose tables lie on an odd page", () => {
  const { kernel } = miniGuest();
  const { ram, tables } = kernel;
  const pair = ram.take(2 * PAGE_SIZE, 2 * PAGE_SIZE);
  ram.bytes.copyWithin(pair, tables.pgd, tables.pgd + PAGE_SIZE);
  const user = BigInt(pair + PAGE_SIZE) | 0x801n;
  assert.equal(attach(ram.mapped(), { registers: [kernel.registers(user)] }).table("processes").rows, 3);
  // Without PTI a process's top table may lie anywhere: bit 12 is part of its address.
  const odd = ram.take(2 * PAGE_SIZE, 2 * PAGE_SIZE) + PAGE_SIZE;
  ram.bytes.copyWithin(odd, tables.pgd, tables.pgd + PAGE_SIZE);
  assert.equal(attach(ram.mapped(), { registers: [kernel.registers(BigInt(odd))] }).table("processes").rows, 3);
});

test("a kernel that can't be opened does not stand in the way of one that can", () => {
  const [one, other] = two(1_700_000_000, 1_800_000_000);
  other.writeNote({ "SYMBOL(kallsyms_names)": "ffffffffffffff00" });
  assert.equal(attach(one.ram.mapped()).kernel.space.pgd, one.tables.pgd);
});

test("a note that differs from the kernel's own only in where the symbols are does not take its place", () => {
  const { kernel } = miniGuest();
  const { ram, noteGpa } = kernel;
  const real = ram.bytes.slice(noteGpa, noteGpa + PAGE_SIZE);
  kernel.writeNote({ "SYMBOL(kallsyms_names)": kernel.symbol("linux_banner").toString(16) });
  ram.bytes.copyWithin(PAGE_SIZE, noteGpa, noteGpa + PAGE_SIZE);
  ram.bytes.set(real, noteGpa);
  for (const options of [{}, { registers: [kernel.registers()] }]) {
    assert.equal(attach(ram.mapped(), options).table("processes").rows, 3);
  }
});
