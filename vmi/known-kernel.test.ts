import assert from "node:assert/strict";
import { test } from "node:test";
import { fiveLevel, fourLevel, type Mmu } from "./arch/x86-64.ts";
import { PAGE_SIZE } from "./bytes/address.ts";
import type { VcpuRegisters } from "./driver/driver.ts";
import { attach } from "./guest.ts";
import { MappedMemory } from "./memory/mapped-memory.ts";
import type { ScanPiece } from "./memory/physical-memory.ts";
import { MiniKernel } from "./testing/mini-kernel.ts";
import { addProcess } from "./testing/mini-objects.ts";
import { vmcoreinfoText } from "./testing/vmcoreinfo-writer.ts";

/** Where the kernel maps its interrupt table for all tables of PTI: CPU_ENTRY_AREA_RO_IDT. */
const IDT = 0xffff_fe00_0000_0000n;

class CountingMemory extends MappedMemory {
  scans = 0;
  override scan(chunk: number, visit: (piece: ScanPiece) => boolean | undefined): void {
    this.scans++;
    super.scan(chunk, visit);
  }
}

interface Known {
  readonly kernel: MiniKernel;
  readonly memory: CountingMemory;
  readonly registers: VcpuRegisters;
  readonly idt: number;
}

/** A guest whose interrupt table and pointer to its note are in place. */
function known(mmu: Mmu = fourLevel, kaslr = 0x1200_0000n): Known {
  const kernel = new MiniKernel({ mmu, kaslr });
  const handler = kernel.image("asm_exc_divide_error", 64, "T");
  const pointer = kernel.image("vmcoreinfo_data", 8, "D");
  addProcess(kernel, { pid: 1, comm: "init" });
  kernel.finish();
  const { ram } = kernel;
  const [text, idt] = [ram.take(), ram.take()];
  ram.bytes.set(Buffer.from(vmcoreinfoText(kernel.vmcoreinfo())), text);
  kernel.writeInteger(pointer, kernel.directMap + BigInt(text), 8);
  kernel.tables.map(IDT, idt, { writable: false });
  ram.view.setUint16(idt, Number(handler & 0xffffn), true);
  ram.view.setUint16(idt + 2, 0x10, true);
  ram.view.setUint16(idt + 4, 0x8e00, true);
  ram.view.setUint16(idt + 6, Number((handler >> 16n) & 0xffffn), true);
  ram.view.setUint32(idt + 8, Number(handler >> 32n), true);
  const { registers } = kernel.registers();
  const memory = new CountingMemory(ram.layout, ram.bytes, ram.end, () => {});
  return { kernel, memory, registers: { index: 0, registers: { ...registers, idtr_base: IDT } }, idt };
}

for (const mmu of [fourLevel, fiveLevel]) {
  test(`${mmu.name}: a known kernel is found without a search, wherever KASLR put it`, () => {
    const first = known(mmu);
    const { profile } = attach(first.memory);
    assert.equal(first.memory.scans, 1);
    const { memory, registers } = known(mmu, 0x340_0000n);
    const guest = attach(memory, { registers: [registers], profiles: [profile] });
    assert.equal(memory.scans, 0);
    assert.equal(guest.profileWasCached, true);
    assert.equal(guest.kernel.kaslrOffset, 0x340_0000);
    assert.equal(guest.table("processes").rows, 1);
  });
}

test("from the user half of PTI's tables, which map the interrupt table and little else", () => {
  const { kernel, memory, registers } = known();
  const { profile } = attach(memory);
  const { ram, tables } = kernel;
  const pair = ram.take(2 * PAGE_SIZE, 2 * PAGE_SIZE);
  ram.bytes.copyWithin(pair, tables.pgd, tables.pgd + PAGE_SIZE);
  ram.setU64(pair + PAGE_SIZE + 508 * 8, ram.u64(tables.pgd + 508 * 8));
  const cr3 = BigInt(pair + PAGE_SIZE) | 0x803n;
  memory.scans = 0;
  const vcpu = { index: 0, registers: { ...registers.registers, cr3 } };
  assert.equal(attach(memory, { registers: [vcpu], profiles: [profile] }).table("processes").rows, 1);
  assert.equal(memory.scans, 0);
});

test("a guess that leads nowhere, or to a note that is not proven, ends in a search", () => {
  const changes: ((known: Known) => void)[] = [
    ({ kernel, idt }) => kernel.ram.bytes.fill(0, idt, idt + 16),
    ({ kernel }) => kernel.tables.setEntry(IDT, 0n, 12),
    ({ kernel }) => kernel.writeInteger(kernel.symbol("vmcoreinfo_data"), 0, 8),
    ({ kernel }) => kernel.writeInteger(kernel.symbol("vmcoreinfo_data"), kernel.directMap + 0x10n, 8),
    ({ kernel }) => {
      const stale = kernel.ram.take();
      const text = vmcoreinfoText({ ...kernel.vmcoreinfo(), "NUMBER(phys_base)": "0" });
      kernel.ram.bytes.set(Buffer.from(text), stale);
      kernel.writeInteger(kernel.symbol("vmcoreinfo_data"), kernel.directMap + BigInt(stale), 8);
    },
  ];
  for (const change of changes) {
    const guest = known();
    const { profile } = attach(guest.memory);
    change(guest);
    guest.memory.scans = 0;
    const again = attach(guest.memory, { registers: [guest.registers], profiles: [profile] });
    assert.equal(guest.memory.scans, 1);
    assert.equal(again.table("processes").rows, 1);
  }
});

test("registers show that another kernel runs, where memory alone does not", () => {
  const { kernel, memory, registers } = known();
  const guest = attach(memory, { registers: [registers] });
  assert.equal(guest.isCurrent([registers]), true);
  assert.equal(guest.isCurrent(), true);
  const elsewhere = { index: 0, registers: { ...registers.registers, cr3: BigInt(kernel.ram.take()) } };
  assert.equal(guest.isCurrent([elsewhere]), false);
});
