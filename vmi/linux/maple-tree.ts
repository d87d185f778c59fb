import type { Budget } from "../budget.ts";
import { type Halves, numberOf } from "../bytes/address.ts";
import { struct } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { isNull, plus, readPointer } from "./read.ts";

/** include/linux/maple_tree.h, from 6.1 (54a611b60590) */
const mapleTree = struct("?maple_tree", { ma_root: "ma_root" });
const range64 = struct("?maple_range_64", { pivot: "pivot", slot: "slot" });
const arange64 = struct("?maple_arange_64", { pivot: "pivot", slot: "slot" });

/** enum maple_type */
const LEAF_64 = 1;
const RANGE_64 = 2;
const ARANGE_64 = 3;
/** MAPLE_RANGE64_SLOTS and MAPLE_ARANGE64_SLOTS of a 64-bit kernel. */
const RANGE_SLOTS = 16;
const ARANGE_SLOTS = 10;
/** A pointer to a node also holds the node's type; nodes are 256 bytes, and aligned so. */
const NODE_MASK = ~0xff;
const TYPE_SHIFT = 3;
const TYPE_MASK = 0xf;
/** xa_is_internal(): a node, or a reserved entry, which is a small number. */
const INTERNAL_MASK = 3;
const INTERNAL = 2;
const MAX_RESERVED = 4096;
/** MAPLE_HEIGHT_MAX */
const MAX_HEIGHT = 31;
/** ULONG_MAX, as numberOf() gives it: what a tree's root is for. */
const HIGHEST = 2 ** 64;

/**
 * Visits the entries of a maple tree by ascending range. Slots behind the last pivot of a node hold remains: a node ends
 * where a pivot reaches the highest index that it is for, or is zero.
 *
 * @param visit returns false to stop
 * @returns false when the tree could not be read to its end, or a visit stopped it
 */
export function walkMapleTree(
  kernel: Kernel,
  tree: Halves,
  budget: Budget,
  visit: (entry: Halves) => boolean,
): boolean {
  const { ma_root } = kernel.layout(mapleTree);
  const root = ma_root < 0 ? undefined : readPointer(kernel.space, tree, ma_root);
  if (root === undefined) return false;
  if (isNull(root)) return true;
  // Only the root's pointer is marked as internal: a single entry may be there instead. Below, the level tells.
  return isNode(root) ? walkNode(kernel, root, HIGHEST, MAX_HEIGHT, budget, visit) : isReserved(root) || visit(root);
}

/** @param highest index that the node is for */
function walkNode(
  kernel: Kernel,
  pointer: Halves,
  highest: number,
  height: number,
  budget: Budget,
  visit: (entry: Halves) => boolean,
): boolean {
  const type = (pointer.lo >>> TYPE_SHIFT) & TYPE_MASK;
  const layout = kernel.layout(type === ARANGE_64 ? arange64 : range64);
  if (height === 0 || type < LEAF_64 || type > ARANGE_64) return false;
  const node: Halves = { hi: pointer.hi, lo: pointer.lo & NODE_MASK };
  const slots = type === ARANGE_64 ? ARANGE_SLOTS : RANGE_SLOTS;
  for (let slot = 0; slot < slots; slot++) {
    budget.spend();
    const pivot = slot < slots - 1 ? readPointer(kernel.space, plus(node, layout.pivot), slot * 8) : undefined;
    if (slot < slots - 1 && pivot === undefined) return false;
    const value = pivot === undefined ? highest : numberOf(pivot.hi, pivot.lo);
    const end = value >= highest || (value === 0 && slot > 0);
    const entry = readPointer(kernel.space, plus(node, layout.slot), slot * 8);
    if (entry === undefined) return false;
    if (!isNull(entry)) {
      const inner = type === RANGE_64 || type === ARANGE_64;
      if (inner) {
        if (!walkNode(kernel, entry, end ? highest : value, height - 1, budget, visit)) return false;
      } else if (!isReserved(entry) && !visit(entry)) return false;
    }
    if (end) break;
  }
  return true;
}

function isNode(entry: Halves): boolean {
  return (entry.lo & INTERNAL_MASK) === INTERNAL && (entry.hi !== 0 || entry.lo >>> 0 > MAX_RESERVED);
}

function isReserved(entry: Halves): boolean {
  return (entry.lo & INTERNAL_MASK) === INTERNAL && entry.hi === 0 && entry.lo >>> 0 <= MAX_RESERVED;
}
