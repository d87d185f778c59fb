import { type Halves, PAGE_SIZE } from "../bytes/address.ts";
import { struct, symbol } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { readPointer, sum } from "./read.ts";

/**
 * Where the kernel maps all of RAM, and where it has the struct page of each page of it: variables with
 * CONFIG_DYNAMIC_MEMORY_LAYOUT, which KASLR of memory needs, fixed otherwise (Documentation/arch/x86/x86_64/mm.rst).
 */

const vmemmapBase = symbol("?vmemmap_base");
const pageOffsetBase = symbol("?page_offset_base");
const page = struct("page", { flags: "flags" });

const VMEMMAP: Halves = { hi: 0xffffea00 | 0, lo: 0 };
const PAGE_OFFSET: Halves = { hi: 0xffff8880 | 0, lo: 0 };
const U32 = 0x1_0000_0000;

export interface Memmap {
  /** Of the struct page of page 0. */
  readonly base: Halves;
  /** Bytes of a struct page. */
  readonly size: number;
}

/** Undefined when the kernel does not say where it is. */
export function memmap(kernel: Kernel): Memmap | undefined {
  const found = kernel.optionalPlace(vmemmapBase);
  const base = found === undefined ? VMEMMAP : readPointer(kernel.space, found);
  const { sizeof: size } = kernel.layout(page);
  return base === undefined || size === 0 ? undefined : { base, size };
}

/** The struct page of the page at a guest physical address. */
export function pageOf({ base, size }: Memmap, gpa: number): Halves {
  return beyond(base, Math.floor(gpa / PAGE_SIZE) * size);
}

/** The address at which the kernel's map of all RAM begins: __va(0). */
export function directMap(kernel: Kernel): Halves | undefined {
  const found = kernel.optionalPlace(pageOffsetBase);
  return found === undefined ? PAGE_OFFSET : readPointer(kernel.space, found);
}

/** An address and a number of bytes, below 2^53. */
export function beyond(at: Halves, bytes: number): Halves {
  return sum(at, { hi: Math.floor(bytes / U32) | 0, lo: bytes | 0 });
}

/**
 * Visits the struct pages of all RAM, by pages of the memmap: at each place in the memory's view that many of them follow
 * one another, `first` being the number of the first one's page.
 */
export function scanMemmap(
  kernel: Kernel,
  { base, size }: Memmap,
  visit: (index: number, first: number, count: number) => void,
): void {
  const { space, memory } = kernel;
  // One that lies on two pages is visited alone.
  const together = PAGE_SIZE % size === 0 ? PAGE_SIZE / size : 1;
  for (const { gpa, length } of memory.layout.ranges) {
    const end = Math.floor((gpa + length) / PAGE_SIZE);
    for (let first = Math.ceil(gpa / PAGE_SIZE); first < end; ) {
      const count = Math.min(together - (first % together), end - first);
      const at = beyond(base, first * size);
      const index = space.borrow(at.hi, at.lo, count * size);
      if (index >= 0) visit(index, first, count);
      first += count;
    }
  }
}
