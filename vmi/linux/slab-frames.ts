import type { Budget } from "../budget.ts";
import { gvaOf, type Halves, PAGE_SIZE } from "../bytes/address.ts";
import type { Span } from "../memory/mapped-spans.ts";
import { populatedSpans } from "../memory/physical-memory.ts";
import { struct } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { directMap, memmap, pageOf } from "./memmap.ts";
import { plus, readPointer } from "./read.ts";

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

/**
 * The frames in which the kernel keeps its objects (kmalloc() and kmem_cache_alloc()), by their addresses in the direct
 * map. Nothing where the kernel's types do not say how to tell them.
 */
export function* slabSpans(kernel: Kernel, budget: Budget): Generator<Span> {
  const map = memmap(kernel);
  const base = directMap(kernel);
  const isSlab = slabTest(kernel);
  const { compound_head } = kernel.layout(page);
  if (map === undefined || base === undefined || isSlab === undefined) return;
  const direct = gvaOf(base.hi, base.lo);
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
