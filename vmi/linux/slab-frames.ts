import type { Budget } from "../budget.ts";
import { type Halves, PAGE_SIZE } from "../bytes/address.ts";
import type { Span } from "../memory/mapped-spans.ts";
import { populatedSpans } from "../memory/physical-memory.ts";
import { struct, symbol } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { memoryMap, pageOf } from "./page-cache.ts";
import { plus, readPointer } from "./read.ts";

/** Where all of RAM is mapped: moved by KASLR (CONFIG_DYNAMIC_MEMORY_LAYOUT); fixed otherwise (Documentation/arch/x86/x86_64/mm.rst). */
const pageOffsetBase = symbol("?page_offset_base");
const PAGE_OFFSET = 0xffff_8880_0000_0000n;

/** include/linux/mm_types.h */
const page = struct("page", { flags: "flags", compound_head: "?compound_head", page_type: "?page_type" });
/** Before 6.10 (46df8e73a4a3) slab pages have a flag. */
const pageFlags = struct("?enum pageflags", { PG_slab: "?PG_slab" });
/** From then on a type: from 6.12 (4ffca5a96678) a number in the highest byte; in between a bit that is cleared. */
const pageType = struct("?enum pagetype", { PGTY_slab: "?PGTY_slab", PG_slab: "?PG_slab" });
/** PAGE_TYPE_BASE */
const TYPE_BASE = 0xf000_0000;
/** A frame's struct page is looked at as a whole. */
const FRAME_COST = 2;

/** The direct map's address of a guest physical address 0; undefined when it can't be read. */
function directMap(kernel: Kernel): bigint | undefined {
  const place = kernel.optionalPlace(pageOffsetBase);
  if (place === undefined) return PAGE_OFFSET;
  const base = readPointer(kernel.space, place);
  return base && (BigInt(base.hi >>> 0) << 32n) | BigInt(base.lo >>> 0);
}

/**
 * The frames in which the kernel keeps its objects (kmalloc() and kmem_cache_alloc()), by their addresses in the direct
 * map. Nothing where the kernel's types do not say how to tell them.
 */
export function* slabSpans(kernel: Kernel, budget: Budget): Generator<Span> {
  const map = memoryMap(kernel);
  const direct = directMap(kernel);
  const isSlab = slabTest(kernel);
  const { compound_head } = kernel.layout(page);
  if (map === undefined || direct === undefined || isSlab === undefined) return;
  let run = { gpa: 0, length: 0 };
  const told = (): Span => ({ ...run, address: direct + BigInt(run.gpa) });
  for (const { gpa: start, length } of populatedSpans(kernel.memory.layout)) {
    for (let gpa = start; gpa < start + length; gpa += PAGE_SIZE) {
      budget.spend(FRAME_COST);
      let at: Halves = pageOf(map, gpa);
      const head = compound_head < 0 ? undefined : readPointer(kernel.space, at, compound_head);
      // The pages of one allocation behind the first point at it, and have 1 in the lowest bit for that.
      if (head !== undefined && (head.lo & 1) !== 0) at = plus(head, -1);
      if (!isSlab(at)) continue;
      if (run.length > 0 && run.gpa + run.length === gpa) run.length += PAGE_SIZE;
      else {
        if (run.length > 0) yield told();
        run = { gpa, length: PAGE_SIZE };
      }
    }
  }
  if (run.length > 0) yield told();
}

function slabTest(kernel: Kernel): ((at: Halves) => boolean) | undefined {
  const { flags, page_type } = kernel.layout(page);
  const { PGTY_slab, PG_slab: typeBit } = kernel.layout(pageType);
  const { PG_slab } = kernel.layout(pageFlags);
  const word = (at: Halves, offset: number) => {
    const place = plus(at, offset);
    const index = kernel.space.borrow(place.hi, place.lo, 4);
    return index < 0 ? undefined : kernel.memory.view.getUint32(index, true);
  };
  if (page_type >= 0 && PGTY_slab >= 0) return (at) => (word(at, page_type) ?? 0) >>> 24 === PGTY_slab;
  if (page_type >= 0 && typeBit >= 0)
    return (at) => ((word(at, page_type) ?? 0) & (TYPE_BASE | typeBit)) >>> 0 === TYPE_BASE;
  return PG_slab < 0 ? undefined : (at) => (((word(at, flags) ?? 0) >>> PG_slab) & 1) === 1;
}
