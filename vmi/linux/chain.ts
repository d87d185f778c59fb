import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import type { Kernel } from "./kernel.ts";
import { isNull, readPointer } from "./read.ts";

/**
 * Follows elements that are linked one way only, up to a null pointer. One that comes again ends it: nothing else tells
 * a loop in such a list.
 *
 * @param member offset of the pointer to the next
 * @param visit returns false to stop
 * @returns false when the end was not reached
 */
export function followChain(
  kernel: Kernel,
  first: Halves | undefined,
  member: number,
  maximum: number,
  budget: Budget,
  visit: (at: Halves) => boolean,
): boolean {
  const seen = new Set<string>();
  let at = first;
  while (at !== undefined && !isNull(at)) {
    budget.spend();
    const key = `${at.hi}:${at.lo}`;
    if (seen.size === maximum || seen.has(key)) return false;
    seen.add(key);
    if (!visit(at)) return false;
    at = readPointer(kernel.space, at, member);
  }
  return at !== undefined;
}
