import { PTE_NX_HI, PTE_PRESENT, PTE_WRITABLE } from "../arch/x86-64.ts";
import type { Budget } from "../budget.ts";
import { type Halves, PAGE_SHIFT } from "../bytes/address.ts";
import type { AddressSpace } from "./address-space.ts";
import { frameOf, isLeaf, tableOf } from "./page-tables.ts";

/** Entries of a table. */
const ENTRIES = 512;
/** A table takes as long as so many elements of a list. */
const TABLE_COST = 64;

/** What a table's entry maps: numbers of virtual pages, exact as such where addresses are not. */
export type VisitMapping = (page: number, pages: number, gpa: number, writable: boolean, executable: boolean) => void;

/** Number of the virtual page of an address. */
export function pageNumber({ hi, lo }: Halves): number {
  return (hi >>> 0) * PAGES_OF_4G + (lo >>> PAGE_SHIFT);
}

export function pageAddress(page: number): Halves {
  return { hi: Math.floor(page / PAGES_OF_4G) | 0, lo: ((page % PAGES_OF_4G) << PAGE_SHIFT) | 0 };
}

const PAGES_OF_4G = 1 << 20;
/** Of the whole address space. */
const ALL_PAGES = 2 ** 52;

/**
 * Visits what an address space maps from one page to another (behind the last), ascending, by its page tables: whatever
 * else the kernel or an intruder says of its addresses, this is what the processor goes by. What a table maps is visited
 * at one of its addresses only, unless it may be used for more at another: the kernel has a stack's page at 2^26 addresses
 * (arch/x86/kernel/espfix_64.c).
 */
export function walkMappings(
  space: AddressSpace,
  first: number,
  end: number,
  budget: Budget,
  visit: VisitMapping,
): void {
  const { memory, mmu } = space;
  const { view } = memory;
  const { shifts } = mmu;
  const levels = shifts.map(() => new Int32Array(ENTRIES * 2));
  /** Kernel addresses are the upper half, of which the top bits are all ones. */
  const half = 2 ** (mmu.virtualBits - PAGE_SHIFT - 1);
  /** By table and level: with which rights it has been gone through. */
  const seen = new Map<number, number>();
  const walk = (table: number, level: number, base: number, writable: boolean, executable: boolean): void => {
    const rights = (writable ? 1 : 0) | (executable ? 2 : 0);
    const before = seen.get(table + level);
    if (before !== undefined && (before & rights) === rights) return;
    seen.set(table + level, (before ?? 0) | rights);
    budget.spend(TABLE_COST);
    const shift = shifts[level]!;
    const pages = 2 ** (shift - PAGE_SHIFT);
    const index = memory.locate(table);
    if (index < 0) return;
    // All of it at once: where memory is copied, what comes below may take its place.
    const entries = levels[level]!;
    for (let i = 0; i < entries.length; i++) entries[i] = view.getInt32(index + i * 4, true);
    for (let i = 0; i < ENTRIES; i++) {
      let page = base + i * pages;
      if (level === 0 && page >= half) page += ALL_PAGES - 2 * half;
      if (page >= end || page + pages <= first) continue;
      const lo = entries[2 * i]!;
      if ((lo & PTE_PRESENT) === 0) continue;
      const whole = entries[2 * i + 1]!;
      const hi = whole & space.smeMaskHi;
      const write = writable && (lo & PTE_WRITABLE) !== 0;
      const execute = executable && (whole & PTE_NX_HI) === 0;
      if (isLeaf(shift, lo)) visit(page, pages, frameOf(shift, hi, lo, 0), write, execute);
      else walk(tableOf(hi, lo), level + 1, page, write, execute);
    }
  };
  walk(space.pgd, 0, 0, true, true);
}
