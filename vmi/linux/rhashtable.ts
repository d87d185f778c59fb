import type { Budget } from "../budget.ts";
import { addHi, addLo, type Halves } from "../bytes/address.ts";
import { struct } from "../symbols/specs.ts";
import { forEachBucket } from "./buckets.ts";
import type { Kernel } from "./kernel.ts";
import type { Addresses } from "./list.ts";
import { isNull, plus, readPointer, readU32 } from "./read.ts";

/** include/linux/rhashtable-types.h, rhashtable.h */
const rhashtable = struct("rhashtable", { tbl: "tbl" });
const bucketTable = struct("bucket_table", {
  size: "size",
  nest: "nest",
  future_tbl: "future_tbl",
  buckets: "buckets",
});

const POINTER = 8;
/** No table of the kernel is larger. */
const MAX_BUCKETS = 1 << 26;
/** Tables that one is being moved to, at once. */
const MAX_TABLES = 4;

/**
 * Walks a struct rhashtable. While it is being resized, elements are spread over two tables: each is given once. A chain
 * ends with an odd number; the lowest bit of a bucket's own pointer is a lock, from 5.3 (8f0db018006a).
 *
 * @param member offset of the rhash_head within an element
 * @param maximum elements beyond this are not followed
 */
export function walkRhashtable(
  kernel: Kernel,
  at: Halves,
  member: number,
  maximum: number,
  budget: Budget,
): Omit<Addresses, "retried"> {
  const { space } = kernel;
  const { view } = kernel.memory;
  const layout = kernel.layout(bucketTable);
  const hi: number[] = [];
  const lo: number[] = [];
  const seen = new Set<string>();
  const end = (complete: boolean) => ({ hi, lo, count: hi.length, complete });
  let table = readPointer(space, at, kernel.layout(rhashtable).tbl);
  for (let tables = 0; table !== undefined && !isNull(table); tables++) {
    const size = readU32(space, table, layout.size);
    // A nested one is made when memory is short, and replaced soon.
    if (tables === MAX_TABLES || size === undefined || size > MAX_BUCKETS) return end(false);
    if (readU32(space, table, layout.nest) !== 0) return end(false);
    const from: Halves = table;
    // Elements may be in two tables, but not twice in one.
    const here = new Set<string>();
    const walked = forEachBucket(kernel, plus(from, layout.buckets), size, POINTER, budget, (index) => {
      let next: Halves | undefined = { hi: view.getInt32(index + 4, true), lo: view.getInt32(index, true) & -2 };
      // Not negative: no kernel address, but none, or the number that marks an empty chain before 5.3.
      if (next.hi >= 0) return "empty";
      while (next !== undefined && (next.lo & 1) === 0 && next.hi < 0) {
        budget.spend();
        const key = `${next.hi}:${next.lo}`;
        if (here.has(key) || hi.length === maximum) return "stop";
        here.add(key);
        if (!seen.has(key)) {
          seen.add(key);
          hi.push(addHi(next.hi, next.lo, -member));
          lo.push(addLo(next.lo, -member));
        }
        next = readPointer(space, next);
      }
      return next === undefined ? "stop" : "followed";
    });
    if (walked !== "whole") return end(false);
    table = readPointer(space, table, layout.future_tbl);
  }
  return end(table !== undefined);
}
