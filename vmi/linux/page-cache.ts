import type { Budget } from "../budget.ts";
import { type Halves, numberOf } from "../bytes/address.ts";
import { struct, symbol } from "../symbols/specs.ts";
import { inode, superBlock } from "./file.ts";
import type { Kernel } from "./kernel.ts";
import { type Addresses, walkList } from "./list.ts";
import { isNull, plus, readNumber, readPointer, readU32, sameAddress, sum } from "./read.ts";
import { walkXarray } from "./xarray.ts";

const superBlocks = symbol("super_blocks");
/** With CONFIG_DYNAMIC_MEMORY_LAYOUT, which KASLR of memory needs; fixed otherwise (Documentation/arch/x86/x86_64/mm.rst). */
const vmemmapBase = symbol("?vmemmap_base");
const VMEMMAP: Halves = { hi: 0xffffea00 | 0, lo: 0 };

const addressSpace = struct("address_space", { i_pages: "i_pages", nrpages: "nrpages" });
const page = struct("page", { flags: "flags", mapping: "mapping" });
/** include/linux/page-flags.h: bit 2 in 6.1, 3 in 6.12. */
const pageFlags = struct("?enum pageflags", { PG_uptodate: "PG_uptodate" });

const PAGE_SIZE = 4096;
const MAX_FILE_SYSTEMS = 65_536;
const MAX_INODES = 1 << 24;
const MAX_ENTRIES = 1 << 24;

/** The super_blocks of the file systems in use. */
export function walkFileSystems(kernel: Kernel, budget: Budget): Addresses {
  return walkList(kernel, kernel.place(superBlocks), kernel.layout(superBlock).s_list, MAX_FILE_SYSTEMS, budget);
}

/** The inodes that a super_block has in memory. */
export function walkInodes(kernel: Kernel, block: Halves, budget: Budget): Addresses {
  const { s_inodes } = kernel.layout(superBlock);
  return walkList(kernel, plus(block, s_inodes), kernel.layout(inode).i_sb_list, MAX_INODES, budget);
}

/** Pages of an inode that are in memory; undefined when that can't be read. */
export function cachedPages(kernel: Kernel, at: Halves): number | undefined {
  const mapping = readPointer(kernel.space, at, kernel.layout(inode).i_mapping);
  return mapping === undefined || isNull(mapping)
    ? undefined
    : readNumber(kernel.space, mapping, kernel.layout(addressSpace).nrpages);
}

/**
 * Visits the cached pages of an inode by ascending place in the file.
 *
 * @param visit gets the number of the first page within the file, the guest physical address of its content, and how
 *   many pages follow one another both in the file and in memory; returns false to stop
 * @returns false when they could not all be read
 */
export function walkCachedPages(
  kernel: Kernel,
  at: Halves,
  budget: Budget,
  visit: (index: number, gpa: number, count: number) => boolean,
): boolean {
  const mapping = readPointer(kernel.space, at, kernel.layout(inode).i_mapping);
  if (mapping === undefined || isNull(mapping)) return false;
  const pages = plus(mapping, kernel.layout(addressSpace).i_pages);
  const map = memoryMap(kernel);
  const { PG_uptodate } = kernel.layout(pageFlags);
  if (map === undefined) return false;
  const { base, size } = map;
  let known = true;
  const complete = walkXarray(kernel, pages, MAX_ENTRIES, budget, (index, entry, count) => {
    // A value stands for a page that was here: it is in swap, or was dropped.
    if (entry.lo & 1) return true;
    const frame = distance(base, entry) / size;
    if (!Number.isInteger(frame) || frame < 0) {
      known = false;
      return true;
    }
    // Whoever gets pages of the file meanwhile takes them off it first: see a unit's end.
    const owner = readPointer(kernel.space, entry, kernel.layout(page).mapping);
    if (owner === undefined || !sameAddress(owner, mapping)) return true;
    // Until it has been read from the disk, a page holds what its memory was last used for.
    const flags = readU32(kernel.space, entry, kernel.layout(page).flags);
    if (PG_uptodate >= 0 && flags !== undefined && ((flags >>> PG_uptodate) & 1) === 0) return true;
    return visit(index, frame * PAGE_SIZE, count);
  });
  return complete && known;
}

/** True when the page at a guest physical address, the first of those that walkCachedPages() told together, is still the inode's. */
export function isCachedPage(kernel: Kernel, at: Halves, gpa: number): boolean {
  const map = memoryMap(kernel);
  const mapping = readPointer(kernel.space, at, kernel.layout(inode).i_mapping);
  const owner = map && readPointer(kernel.space, pageOf(map, gpa), kernel.layout(page).mapping);
  return mapping !== undefined && owner !== undefined && sameAddress(owner, mapping);
}

/** The array of struct page, by frame. */
export interface MemoryMap {
  readonly base: Halves;
  /** Bytes of one. */
  readonly size: number;
}

export function memoryMap(kernel: Kernel): MemoryMap | undefined {
  const found = kernel.optionalPlace(vmemmapBase);
  const base = found === undefined ? VMEMMAP : readPointer(kernel.space, found);
  const size = kernel.layout(page).sizeof;
  return base === undefined || size === 0 ? undefined : { base, size };
}

/** The struct page of the frame at a guest physical address. */
export function pageOf({ base, size }: MemoryMap, gpa: number): Halves {
  const offset = Math.floor(gpa / PAGE_SIZE) * size;
  return sum(base, { hi: Math.floor(offset / 0x1_0000_0000) | 0, lo: offset | 0 });
}

function distance(from: Halves, to: Halves): number {
  return numberOf(to.hi - from.hi, 0) + ((to.lo >>> 0) - (from.lo >>> 0));
}
