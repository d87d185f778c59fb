import type { Budget } from "../budget.ts";
import { addHi, addLo, type Halves } from "../bytes/address.ts";
import type { Kernel } from "./kernel.ts";
import { readPointer, sameAddress } from "./read.ts";

/** Addresses of list elements (of the structures, not of their list_head), as halves side by side. */
export interface Addresses {
  readonly hi: readonly number[];
  readonly lo: readonly number[];
  readonly count: number;
  /** Times that the list changed underneath and was walked anew. */
  readonly retried: number;
  /** False when the list could not be followed to its end. */
  readonly complete: boolean;
}

/** Walks of a list that changes underneath, before what was found is taken as it is. */
const ATTEMPTS = 5;
/** What a walk takes before its first element, once caches have been dropped, as elements. */
const ATTEMPT_COST = 32;

/**
 * Walks a circular `list_head` (include/linux/list.h). Every step is checked: the next element must point back at this
 * one, which also rules out loops that leave the head out; or at the one before, as it does while this one is being put
 * in or taken out (a vCPU can stay in the middle of that for long). Anything else means a torn read: the walk begins
 * anew.
 *
 * @param head address of the list_head that the list hangs on, which is no element itself
 * @param member offset of the list_head within an element
 * @param maximum elements beyond this are not followed
 * @param expected how many there may be: arrays that grow cost as much again as the walk
 */
export function walkList(
  kernel: Kernel,
  head: Halves,
  member: number,
  maximum: number,
  budget: Budget,
  expected = 0,
): Addresses {
  let best: Walk | undefined;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    if (attempt > 0) kernel.dropCaches();
    budget.spend(ATTEMPT_COST);
    const walk = walkOnce(kernel, head, member, maximum, budget, expected);
    if (best === undefined || walk.complete || walk.count > best.count) best = walk;
    if (walk.complete) return { ...walk, retried: attempt };
  }
  return { ...(best as Walk), retried: ATTEMPTS };
}

/** True when what a list_head says to be before it points to it: one that was taken off has a poison there, or itself. */
export function isListed(kernel: Kernel, node: Halves): boolean {
  const before = readPointer(kernel.space, node, 8);
  const to = before && !sameAddress(before, node) ? readPointer(kernel.space, before) : undefined;
  return to !== undefined && sameAddress(to, node);
}

type Walk = Omit<Addresses, "retried">;

/** Elements that are paid for together; what a walk takes covers fewer. */
const STRIDE = 32;

function walkOnce(
  kernel: Kernel,
  head: Halves,
  member: number,
  maximum: number,
  budget: Budget,
  expected: number,
): Walk {
  const { space, trail } = kernel;
  const { view } = kernel.memory;
  const { recording } = trail;
  const hi: number[] = [];
  const lo: number[] = [];
  hi.length = expected;
  lo.length = expected;
  let count = 0;
  const found = (complete: boolean): Walk => {
    hi.length = count;
    lo.length = count;
    return { hi, lo, count, complete };
  };
  let atHi = head.hi;
  let atLo = head.lo;
  let beforeHi = atHi;
  let beforeLo = atLo;
  let index = space.borrow(atHi, atLo, 16);
  while (index >= 0) {
    const nextLo = view.getInt32(index, true);
    const nextHi = view.getInt32(index + 4, true);
    const next = space.borrow(nextHi, nextLo, 16);
    if (next < 0) break;
    const backLo = view.getInt32(next + 8, true);
    const backHi = view.getInt32(next + 12, true);
    const linked = backLo === atLo && backHi === atHi;
    const halfway = backLo === beforeLo && backHi === beforeHi && (nextLo !== atLo || nextHi !== atHi);
    if (!linked && !halfway) break;
    if (nextLo === head.lo && nextHi === head.hi) return found(true);
    if (count === maximum) break;
    if (count % STRIDE === STRIDE - 1) budget.spend(STRIDE);
    if (recording) trail.pointer(atHi, atLo, nextHi, nextLo, index);
    hi[count] = addHi(nextHi, nextLo, -member);
    lo[count] = addLo(nextLo, -member);
    count++;
    beforeHi = atHi;
    beforeLo = atLo;
    atHi = nextHi;
    atLo = nextLo;
    index = next;
  }
  return found(false);
}
