import {
  CR3_PGD_MASK,
  type Mmu,
  PTE_ADDRESS_HI,
  PTE_ADDRESS_LO,
  PTE_LARGE,
  PTE_NX_HI,
  PTE_PRESENT,
  PTE_USER,
  PTE_WRITABLE,
} from "../arch/x86-64.ts";
import { PAGE_SIZE } from "../bytes/address.ts";
import type { PhysicalMemory } from "./physical-memory.ts";

const U32 = 0x1_0000_0000;

/** What the page tables say of one address. */
export interface Translation {
  /** Guest physical address. */
  readonly gpa: number;
  /** 4096, 2 MiB or 1 GiB. */
  readonly pageSize: number;
  readonly writable: boolean;
  readonly user: boolean;
  readonly executable: boolean;
}

/** One tree of page tables over a guest's physical memory. */
export class PageTables {
  readonly memory: PhysicalMemory;
  readonly mmu: Mmu;
  /** Guest physical address of the top table. */
  pgd: number;
  protected readonly smeMask: bigint;
  /** What of an entry's high half is no mark of encryption. */
  readonly smeMaskHi: number;

  /** @param smeMask bits of an entry that mean "encrypted" (VMCOREINFO's NUMBER(sme_mask)), 0 without SME */
  constructor(memory: PhysicalMemory, mmu: Mmu, pgd: number, smeMask = 0n) {
    this.memory = memory;
    this.mmu = mmu;
    this.pgd = pgd;
    this.smeMask = smeMask;
    this.smeMaskHi = ~Number((smeMask >> 32n) & 0xffff_ffffn);
  }

  /** The tables that a CR3 value selects. */
  static ofCr3(memory: PhysicalMemory, mmu: Mmu, cr3: bigint, smeMask = 0n): PageTables {
    return new PageTables(memory, mmu, Number(cr3 & CR3_PGD_MASK & ~smeMask), smeMask);
  }

  /**
   * What the tables say, as the processor would take it: PROT_NONE pages are not mapped.
   * Undefined when the address is not mapped. The result need not be RAM.
   */
  translate(hi: number, lo: number): Translation | undefined {
    const sign = hi >> (this.mmu.virtualBits - 33);
    if (sign !== 0 && sign !== -1) return undefined;
    const { view } = this.memory;
    let table = this.pgd;
    let [writable, user, executable] = [true, true, true];
    for (const shift of this.mmu.shifts) {
      const at = this.memory.locate(table + tableIndex(hi, lo, shift) * 8);
      if (at < 0) return undefined;
      const entryLo = view.getInt32(at, true);
      const entryHi = view.getInt32(at + 4, true);
      if ((entryLo & PTE_PRESENT) === 0) return undefined;
      writable &&= (entryLo & PTE_WRITABLE) !== 0;
      user &&= (entryLo & PTE_USER) !== 0;
      executable &&= (entryHi & PTE_NX_HI) === 0;
      if (isLeaf(shift, entryLo)) {
        const gpa = frameOf(shift, entryHi & this.smeMaskHi, entryLo, lo);
        return { gpa, pageSize: 2 ** shift, writable, user, executable };
      }
      table = tableOf(entryHi & this.smeMaskHi, entryLo);
    }
    return undefined;
  }

  /** Index into `memory.view` of `length` bytes at a virtual address; -1 when they are not mapped to RAM or cross a page. */
  locate(hi: number, lo: number, length: number): number {
    const found = (lo & (PAGE_SIZE - 1)) + length <= PAGE_SIZE ? this.translate(hi, lo) : undefined;
    return found === undefined ? -1 : this.memory.locate(found.gpa);
  }
}

export function tableIndex(hi: number, lo: number, shift: number): number {
  if (shift >= 32) return (hi >>> (shift - 32)) & 511;
  return shift === 30 ? ((hi << 2) | (lo >>> 30)) & 511 : (lo >>> shift) & 511;
}

export function isLeaf(shift: number, entryLo: number): boolean {
  return shift === 12 || (shift <= 30 && (entryLo & PTE_LARGE) !== 0);
}

export function tableOf(entryHi: number, entryLo: number): number {
  return (entryHi & PTE_ADDRESS_HI) * U32 + ((entryLo & PTE_ADDRESS_LO) >>> 0);
}

export function frameOf(shift: number, entryHi: number, entryLo: number, lo: number): number {
  // Below a large leaf's size the entry holds flags (PAT at bit 12), not address bits.
  const offsetMask = shift === 12 ? 0xfff : shift === 21 ? 0x1f_ffff : 0x3fff_ffff;
  return (entryHi & PTE_ADDRESS_HI) * U32 + (((entryLo & PTE_ADDRESS_LO & ~offsetMask) | (lo & offsetMask)) >>> 0);
}
