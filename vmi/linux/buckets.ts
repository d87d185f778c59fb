import type { Budget } from "../budget.ts";
import { addHi, addLo, type Halves, PAGE_SIZE } from "../bytes/address.ts";
import type { Kernel } from "./kernel.ts";

/** Empty buckets are cheap to pass over, and there are many. */
const BUCKETS_A_STEP = 16;

/**
 * Visits the buckets of a hash table, which are looked at in place, a page of them at a time.
 *
 * @param stride bytes of a bucket
 * @param visit is given the index into `memory.view` of a bucket, and its number. "followed" says that other memory was
 * looked at since, so that what was borrowed may be gone; "stop" ends it.
 */
export function forEachBucket(
  kernel: Kernel,
  at: Halves,
  count: number,
  stride: number,
  budget: Budget,
  visit: (index: number, bucket: number) => "empty" | "followed" | "stop",
): "whole" | "stopped" | "unreadable" {
  let index = 0;
  let borrowed = 0;
  for (let bucket = 0; bucket < count; bucket++, borrowed--, index += stride) {
    if ((bucket & (BUCKETS_A_STEP - 1)) === 0) budget.spend();
    if (borrowed === 0) {
      const lo = addLo(at.lo, bucket * stride);
      const inPage = Math.floor((PAGE_SIZE - (lo & (PAGE_SIZE - 1))) / stride);
      borrowed = Math.max(1, Math.min(inPage, count - bucket));
      index = kernel.space.borrow(addHi(at.hi, at.lo, bucket * stride), lo, borrowed * stride);
      if (index < 0) return "unreadable";
    }
    const done = visit(index, bucket);
    if (done === "stop") return "stopped";
    // The next step takes one off.
    if (done === "followed") borrowed = 1;
  }
  return "whole";
}
