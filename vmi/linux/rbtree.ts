import type { Budget } from "../budget.ts";
import { addHi, addLo, type Halves } from "../bytes/address.ts";
import type { Kernel } from "./kernel.ts";
import type { Addresses } from "./list.ts";
import { isNull, readPointer, sameAddress } from "./read.ts";

/** Of struct rb_node (include/linux/rbtree_types.h), the same in every version. */
const RB_RIGHT = 8;
const RB_LEFT = 16;
/** The colour is the lowest bit of the pointer to the parent, the next one is free. */
const COLOUR_MASK = ~3;
/** A red-black tree of 2^48 nodes is no deeper. */
const MAX_DEPTH = 96;
const ATTEMPTS = 3;

/**
 * The elements of a red-black tree, in their order. Every node must point back at the one above it; where one does not,
 * the tree is being rebalanced, and is walked anew.
 *
 * @param root address of the struct rb_root
 * @param member offset of the rb_node within an element
 * @param maximum elements beyond this are not visited
 */
export function walkRbTree(kernel: Kernel, root: Halves, member: number, maximum: number, budget: Budget): Addresses {
  let best: Walk | undefined;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    if (attempt > 0) kernel.dropCaches();
    const walk = walkOnce(kernel, root, member, maximum, budget);
    if (best === undefined || walk.complete || walk.count > best.count) best = walk;
    if (walk.complete) return { ...walk, retried: attempt };
  }
  return { ...(best as Walk), retried: ATTEMPTS };
}

/** True when a node hangs on the one that it says to be above it, or on the root. */
export function isInTree(kernel: Kernel, root: Halves, node: Halves): boolean {
  const { space } = kernel;
  const above = readPointer(space, node);
  if (above === undefined) return false;
  const parent: Halves = { hi: above.hi, lo: above.lo & COLOUR_MASK };
  const links = isNull(parent)
    ? [readPointer(space, root)]
    : [RB_RIGHT, RB_LEFT].map((side) => readPointer(space, parent, side));
  return links.some((link) => link !== undefined && sameAddress(link, node));
}

type Walk = Omit<Addresses, "retried">;

function walkOnce(kernel: Kernel, root: Halves, member: number, maximum: number, budget: Budget): Walk {
  const { space, trail } = kernel;
  const { view } = space.memory;
  const hi: number[] = [];
  const lo: number[] = [];
  const done = (complete: boolean): Walk => ({ hi, lo, count: hi.length, complete });
  /** The nodes whose left side is being visited, the root first. */
  const path: { node: Halves; right: Halves }[] = [];
  let parent: Halves = NULL;
  let node = readPointer(space, root);
  for (;;) {
    while (node !== undefined && !isNull(node)) {
      budget.spend();
      const index = space.borrow(node.hi, node.lo, 24);
      if (index < 0 || path.length === MAX_DEPTH) return done(false);
      if (view.getInt32(index + 4, true) !== parent.hi || (view.getInt32(index, true) & COLOUR_MASK) !== parent.lo)
        return done(false);
      const right = { hi: view.getInt32(index + RB_RIGHT + 4, true), lo: view.getInt32(index + RB_RIGHT, true) };
      const left: Halves = { hi: view.getInt32(index + RB_LEFT + 4, true), lo: view.getInt32(index + RB_LEFT, true) };
      if (trail.recording)
        trail.pointer(addHi(node.hi, node.lo, RB_RIGHT), addLo(node.lo, RB_RIGHT), right.hi, right.lo);
      if (trail.recording) trail.pointer(addHi(node.hi, node.lo, RB_LEFT), addLo(node.lo, RB_LEFT), left.hi, left.lo);
      path.push({ node, right });
      parent = node;
      node = left;
    }
    if (node === undefined) return done(false);
    const next = path.pop();
    if (next === undefined) return done(true);
    if (hi.length === maximum) return done(false);
    hi.push(addHi(next.node.hi, next.node.lo, -member));
    lo.push(addLo(next.node.lo, -member));
    parent = next.node;
    node = next.right;
  }
}

const NULL: Halves = { hi: 0, lo: 0 };
