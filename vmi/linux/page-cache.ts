import type { Budget } from "../budget.ts";
import { type Halves, numberOf } from "../bytes/address.ts";
import { struct, symbol } from "../symbols/specs.ts";
import { inode, isHuge, superBlock } from "./file.ts";
import type { Kernel } from "./kernel.ts";
import { type Addresses, walkList } from "./list.ts";
import { type Memmap, memmap, pageOf } from "./memmap.ts";
import { isNull, plus, readNumber, readPointer, readU32, sameAddress } from "./read.ts";
import { walkXarray, xarrayEntry } from "./xarray.ts";

const superBlocks = symbol("super_blocks");

const addressSpace = struct("address_space", { i_pages: "i_pages", nrpages: "nrpages" });
/** Place in the file: __folio_index from 6.16 (acc53a0b4c15). */
const page = struct("page", { flags: "flags", mapping: "mapping", index: ["?__folio_index", "?index"] });
/** Gone with a08c7193e4f1 (6.7): until then a page cache of hugetlbfs counts in huge pages, both indices and nrpages. */
const countsHugePages = symbol("?linear_hugepage_index");
/** include/linux/page-flags.h: bit 2 in 6.1, 3 in 6.12. */
const pageFlags = struct("?enum pageflags", { PG_uptodate: "PG_uptodate" });

/** include/linux/page-flags.h: in the pointer `mapping`, for pages of processes' own. */
const PAGE_MAPPING_ANON = 1;

const PAGE_SIZE = 4096;
const PAGE_SHIFT = 12;
/** Of the largest page that x86-64 has: 1 GiB. */
const MAX_PAGE_SHIFT = 30;
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
  if (mapping === undefined || isNull(mapping)) return undefined;
  const count = readNumber(kernel.space, mapping, kernel.layout(addressSpace).nrpages);
  return count && count * pagesPerIndex(kernel, at);
}

/** Pages of 4 KiB that an index of an inode's page cache stands for. */
function pagesPerIndex(kernel: Kernel, at: Halves): number {
  const { i_blkbits } = kernel.layout(inode);
  if (kernel.optionalPlace(countsHugePages) === undefined || i_blkbits < 0 || !isHuge(kernel, at)) return 1;
  // As hugetlbfs_fill_super() has it: the block is the huge page.
  const shift = (readU32(kernel.space, at, i_blkbits) ?? 0) & 0xff;
  return shift < PAGE_SHIFT || shift > MAX_PAGE_SHIFT ? 1 : 2 ** (shift - PAGE_SHIFT);
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
  const map = memmap(kernel);
  if (map === undefined) return false;
  const size = pagesPerIndex(kernel, at);
  let known = true;
  const complete = walkXarray(kernel, pages, MAX_ENTRIES, budget, (index, entry, count) => {
    const gpa = contentOf(kernel, map, mapping, entry);
    known &&= gpa !== "unknown";
    return typeof gpa !== "number" || visit(index * size, gpa, count * size);
  });
  return complete && known;
}

/** Guest physical address of the content of one page of an inode; undefined where it is not in memory. */
export function cachedPage(kernel: Kernel, at: Halves, index: number): number | undefined {
  const mapping = readPointer(kernel.space, at, kernel.layout(inode).i_mapping);
  const map = memmap(kernel);
  if (mapping === undefined || isNull(mapping) || map === undefined) return undefined;
  const size = pagesPerIndex(kernel, at);
  const pages = plus(mapping, kernel.layout(addressSpace).i_pages);
  const entry = xarrayEntry(kernel, pages, Math.floor(index / size));
  const folio = entry && contentOf(kernel, map, mapping, entry);
  if (entry === undefined || typeof folio !== "number") return undefined;
  // Several pages that are one folio have one entry, that of the first.
  const place = readNumber(kernel.space, entry, kernel.layout(page).index);
  const first = place && place * size;
  return first === undefined || first > index ? undefined : folio + (index - first) * PAGE_SIZE;
}

/** True for a page of processes' own, as one is that was written in a private mapping; undefined when it can't be told. */
export function isAnonymousPage(kernel: Kernel, gpa: number): boolean | undefined {
  const map = memmap(kernel);
  if (map === undefined) return undefined;
  const mapping = readPointer(kernel.space, pageOf(map, gpa), kernel.layout(page).mapping);
  return mapping && (mapping.lo & PAGE_MAPPING_ANON) !== 0;
}

/** Guest physical address of the content that an entry of a page cache stands for. */
function contentOf(kernel: Kernel, map: Memmap, mapping: Halves, entry: Halves): number | "none" | "unknown" {
  const layout = kernel.layout(page);
  // A value stands for a page that was here: it is in swap, or was dropped.
  if (entry.lo & 1) return "none";
  const frame = distance(map.base, entry) / map.size;
  if (!Number.isInteger(frame) || frame < 0) return "unknown";
  // Whoever gets pages of the file meanwhile takes them off it first: see a unit's end.
  const owner = readPointer(kernel.space, entry, layout.mapping);
  if (owner === undefined || !sameAddress(owner, mapping)) return "none";
  // Until it has been read from the disk, a page holds what its memory was last used for.
  const { PG_uptodate } = kernel.layout(pageFlags);
  const flags = readU32(kernel.space, entry, layout.flags);
  if (PG_uptodate >= 0 && flags !== undefined && ((flags >>> PG_uptodate) & 1) === 0) return "none";
  return frame * PAGE_SIZE;
}

/** True when the page at a guest physical address, the first of those that walkCachedPages() told together, is still the inode's. */
export function isCachedPage(kernel: Kernel, at: Halves, gpa: number): boolean {
  const map = memmap(kernel);
  const mapping = readPointer(kernel.space, at, kernel.layout(inode).i_mapping);
  const owner = map && readPointer(kernel.space, pageOf(map, gpa), kernel.layout(page).mapping);
  return mapping !== undefined && owner !== undefined && sameAddress(owner, mapping);
}

function distance(from: Halves, to: Halves): number {
  return numberOf(to.hi - from.hi, 0) + ((to.lo >>> 0) - (from.lo >>> 0));
}
