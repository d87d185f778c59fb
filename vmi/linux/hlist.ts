import type { Budget } from "../budget.ts";
import { addHi, addLo, type Halves } from "../bytes/address.ts";
import type { Kernel } from "./kernel.ts";
import type { Addresses } from "./list.ts";
import { isNull, readPointer, sameAddress } from "./read.ts";

const ATTEMPTS = 3;

/**
 * Walks a `hlist_head` (include/linux/list.h): each node must point back at what points to it, or the walk begins anew.
 *
 * @param head address of the hlist_head
 * @param member offset of the hlist_node within an element
 * @param maximum elements beyond this are not followed
 */
export function walkHlist(kernel: Kernel, head: Halves, member: number, maximum: number, budget: Budget): Addresses {
  return walk(kernel, head, member, maximum, budget, false);
}

/** As walkHlist, for a `hlist_nulls_head` (include/linux/list_nulls.h): its last pointer is an odd number. */
export function walkHlistNulls(
  kernel: Kernel,
  head: Halves,
  member: number,
  maximum: number,
  budget: Budget,
): Addresses {
  return walk(kernel, head, member, maximum, budget, true);
}

/** True when what a hlist_node says to point to it does: a node that was taken off has null or a poison there. */
export function isHashed(kernel: Kernel, node: Halves): boolean {
  const back = readPointer(kernel.space, node, 8);
  const to = back && !isNull(back) ? readPointer(kernel.space, back) : undefined;
  return to !== undefined && sameAddress(to, node);
}

function walk(
  kernel: Kernel,
  head: Halves,
  member: number,
  maximum: number,
  budget: Budget,
  nulls: boolean,
): Addresses {
  let best: Walk | undefined;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    if (attempt > 0) kernel.dropCaches();
    const found = walkOnce(kernel, head, member, maximum, budget, nulls);
    if (best === undefined || found.complete || found.count > best.count) best = found;
    if (found.complete) return { ...found, retried: attempt };
  }
  return { ...(best as Walk), retried: ATTEMPTS };
}

type Walk = Omit<Addresses, "retried">;

function walkOnce(kernel: Kernel, head: Halves, member: number, maximum: number, budget: Budget, nulls: boolean): Walk {
  const { space, trail } = kernel;
  const { view } = kernel.memory;
  const hi: number[] = [];
  const lo: number[] = [];
  let atHi = head.hi;
  let atLo = head.lo;
  let index = space.borrow(atHi, atLo, 8);
  while (index >= 0) {
    const nextLo = view.getInt32(index, true);
    const nextHi = view.getInt32(index + 4, true);
    const end = nulls ? (nextLo & 1) !== 0 : nextLo === 0 && nextHi === 0;
    if (end) return { hi, lo, count: hi.length, complete: true };
    if (hi.length === maximum) break;
    budget.spend();
    const next = space.borrow(nextHi, nextLo, 16);
    // `next` is the first member of a head and of a node, so what points to a node is at either's own address.
    if (next < 0 || view.getInt32(next + 8, true) !== atLo || view.getInt32(next + 12, true) !== atHi) break;
    if (trail.recording) trail.pointer(atHi, atLo, nextHi, nextLo);
    hi.push(addHi(nextHi, nextLo, -member));
    lo.push(addLo(nextLo, -member));
    atHi = nextHi;
    atLo = nextLo;
    index = next;
  }
  return { hi, lo, count: hi.length, complete: false };
}
