import type { Budget } from "../budget.ts";
import { type Halves, PAGE_SIZE } from "../bytes/address.ts";
import { struct } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { beyond, directMap, memmap, scanMemmap } from "./memmap.ts";
import { isNull, plus, readPointer, readU32 } from "./read.ts";

/** The SLUB allocator (mm/slub.c): which objects a cache has, used or free. */

/** A type of its own from 5.17 (d122019bf061); before, part of struct page. `inuse` begins a word that `objects` is in. */
const slab = struct("?slab", { slab_cache: "slab_cache", inuse: "?inuse" });
const slabPage = struct("page", { slab_cache: "?slab_cache", inuse: "?inuse" });
const kmemCache = struct("?kmem_cache", {
  size: "size",
  /** Where a free object has the pointer to the next. */
  offset: "?offset",
  /** With CONFIG_SLAB_FREELIST_HARDENED. */
  random: "?random",
  /** With CONFIG_SLUB_DEBUG: what comes before an object, if red zones are on. */
  red_left_pad: "?red_left_pad",
});

/** MAX_OBJS_PER_PAGE */
const MAX_OBJECTS = 32_767;
const MAX_SIZE = 1 << 20;

export interface SlabCache {
  readonly at: Halves;
  readonly size: number;
  readonly padding: number;
  readonly freeOffset: number;
  readonly random: Halves | undefined;
}

export interface SlabObject {
  readonly at: Halves;
  /** The first object of its slab, and how many there are. */
  readonly first: Halves;
  readonly count: number;
}

/** Undefined for a kernel with another allocator, or a cache that can't be believed. */
export function readSlabCache(kernel: Kernel, at: Halves): SlabCache | undefined {
  const { space } = kernel;
  const layout = kernel.layout(kmemCache);
  const size = layout.size < 0 ? undefined : readU32(space, at, layout.size);
  const freeOffset = layout.offset < 0 ? undefined : readU32(space, at, layout.offset);
  const padding = layout.red_left_pad < 0 ? 0 : readU32(space, at, layout.red_left_pad);
  if (size === undefined || freeOffset === undefined || padding === undefined) return undefined;
  if (size === 0 || size > MAX_SIZE || freeOffset >= size || padding >= size) return undefined;
  const random = layout.random < 0 ? undefined : readPointer(space, at, layout.random);
  return { at, size, padding, freeOffset, random };
}

/**
 * Visits the objects of all slabs of a cache, used or free, by what the struct page of every page of RAM says: no list of
 * slabs is needed, and none can leave one out. What was a slab of the cache until lately may be among them.
 *
 * @returns false when the kernel's slabs are not understood
 */
export function scanSlabs(
  kernel: Kernel,
  cache: SlabCache,
  budget: Budget,
  visit: (object: SlabObject) => void,
): boolean {
  const layout = kernel.layout(slab).sizeof > 0 ? kernel.layout(slab) : kernel.layout(slabPage);
  const map = memmap(kernel);
  const direct = directMap(kernel);
  if (layout.slab_cache < 0 || layout.inuse < 0 || map === undefined || direct === undefined) return false;
  const { view } = kernel.memory;
  const { hi, lo } = cache.at;
  const { slab_cache, inuse } = layout;
  const { size } = map;
  const found: { page: number; count: number }[] = [];
  scanMemmap(kernel, map, (index, first, count) => {
    budget.spend();
    const end = index + count * size;
    for (let at = index, page = first; at < end; at += size, page++) {
      if (view.getInt32(at + slab_cache, true) !== lo || view.getInt32(at + slab_cache + 4, true) !== hi) continue;
      found.push({ page, count: (view.getUint32(at + inuse, true) >>> 16) & MAX_OBJECTS });
    }
  });
  for (const { page, count } of found) {
    const first = beyond(direct, page * PAGE_SIZE + cache.padding);
    budget.spend(1 + count);
    for (let i = 0; i < count; i++) visit({ at: plus(first, i * cache.size), first, count });
  }
  return true;
}

/**
 * True when an object has a free one's pointer to the next free object of its slab, or to none. Where pointers are not
 * hardened, none looks like any member that is zero, and tells nothing.
 */
export function looksFree(kernel: Kernel, cache: SlabCache, { at, first, count }: SlabObject): boolean {
  const place = plus(at, cache.freeOffset);
  const stored = readPointer(kernel.space, place);
  if (stored === undefined) return true;
  const { random } = cache;
  if (random === undefined) return !isNull(stored) && isObject(stored, cache, first, count);
  // With the bytes of the place swapped from 5.7 (1ad53d9fa3f6).
  const keys: Halves[] = [{ hi: swapped(place.lo), lo: swapped(place.hi) }, place];
  return keys.some((key) => {
    const next = { hi: stored.hi ^ random.hi ^ key.hi, lo: stored.lo ^ random.lo ^ key.lo };
    return isNull(next) || isObject(next, cache, first, count);
  });
}

function isObject({ hi, lo }: Halves, { size }: SlabCache, first: Halves, count: number): boolean {
  const distance = (hi - first.hi) * 0x1_0000_0000 + ((lo >>> 0) - (first.lo >>> 0));
  return distance >= 0 && distance < size * count && distance % size === 0;
}

function swapped(word: number): number {
  return (word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24) | 0;
}
