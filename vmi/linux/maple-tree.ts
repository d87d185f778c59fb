import type { Budget } from "../budget.ts";
import { addLo, type Halves, numberOf } from "../bytes/address.ts";
import { struct } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { isNull, readPointer } from "./read.ts";

/** include/linux/maple_tree.h, from 6.1 (54a611b60590) */
const mapleTree = struct("?maple_tree", { ma_root: "ma_root" });
const range64 = struct("?maple_range_64", { pivot: "pivot", slot: "slot" });
const arange64 = struct("?maple_arange_64", { pivot: "pivot", slot: "slot" });

/** enum maple_type */
const LEAF_64 = 1;
const ARANGE_64 = 3;
/** MAPLE_RANGE64_SLOTS and MAPLE_ARANGE64_SLOTS of a 64-bit kernel. */
const RANGE_SLOTS = 16;
const ARANGE_SLOTS = 10;
/** A pointer to a node also holds the node's type; nodes are 256 bytes, and aligned so. */
const NODE_SIZE = 256;
const NODE_MASK = -NODE_SIZE;
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
  visit: (hi: number, lo: number) => boolean,
): boolean {
  const { ma_root } = kernel.layout(mapleTree);
  const root = ma_root < 0 ? undefined : readPointer(kernel.space, tree, ma_root);
  if (root === undefined) return false;
  if (isNull(root)) return true;
  // Only the root's pointer is marked as internal: a single entry may be there instead. Below, the level tells.
  return isNode(root)
    ? walkNode(kernel, root, HIGHEST, MAX_HEIGHT, budget, visit)
    : isReserved(root) || visit(root.hi, root.lo);
}

/** The entry at an index; undefined where there is none, or the tree can't be read. */
export function mapleEntryAt(kernel: Kernel, tree: Halves, index: number, budget: Budget): Halves | undefined {
  const { ma_root } = kernel.layout(mapleTree);
  const { view } = kernel.memory;
  let entry = ma_root < 0 ? undefined : readPointer(kernel.space, tree, ma_root);
  if (entry === undefined) return undefined;
  if (!isNode(entry)) return isNull(entry) || isReserved(entry) ? undefined : entry;
  for (let height = MAX_HEIGHT; height > 0; height--) {
    const node = nodeOf(kernel, entry);
    if (node === undefined) return undefined;
    budget.spend();
    let slot = 0;
    for (; slot < node.slots - 1; slot++) {
      const pivot = node.index + node.pivot + slot * 8;
      const end = numberOf(view.getInt32(pivot + 4, true), view.getInt32(pivot, true));
      // A zero behind the first ends the node, as in walkNode.
      if (end >= index || (end === 0 && slot > 0)) break;
    }
    entry = readPointer(kernel.space, node.at, node.slot + slot * 8);
    if (entry === undefined || isNull(entry)) return undefined;
    if (node.leaf) return isReserved(entry) ? undefined : entry;
  }
  return undefined;
}

interface MapleNode {
  readonly at: Halves;
  /** Of the node in `memory.view`. */
  readonly index: number;
  readonly slots: number;
  /** Offsets. */
  readonly pivot: number;
  readonly slot: number;
  readonly leaf: boolean;
}

/** The node that an entry points to; undefined when it can't be read, or is of a type for other trees. */
function nodeOf(kernel: Kernel, entry: Halves): MapleNode | undefined {
  const type = (entry.lo >>> TYPE_SHIFT) & TYPE_MASK;
  if (type < LEAF_64 || type > ARANGE_64) return undefined;
  const { pivot, slot } = kernel.layout(type === ARANGE_64 ? arange64 : range64);
  const slots = type === ARANGE_64 ? ARANGE_SLOTS : RANGE_SLOTS;
  // Types are of the guest's making too.
  if (pivot < 0 || slot < 0 || Math.max(pivot - 8, slot) + slots * 8 > NODE_SIZE) return undefined;
  const at: Halves = { hi: entry.hi, lo: entry.lo & NODE_MASK };
  const index = kernel.space.borrow(at.hi, at.lo, NODE_SIZE);
  if (index < 0) return undefined;
  return { at, index, slots, pivot, slot, leaf: type === LEAF_64 };
}

/** @param highest index that the node is for */
function walkNode(
  kernel: Kernel,
  pointer: Halves,
  highest: number,
  height: number,
  budget: Budget,
  visit: (hi: number, lo: number) => boolean,
): boolean {
  const node = height === 0 ? undefined : nodeOf(kernel, pointer);
  if (node === undefined) return false;
  const { at, slots, slot: first, leaf } = node;
  budget.spend(slots);
  const { trail } = kernel;
  const { view } = kernel.memory;
  // All of it at once: what is visited may take its place where memory is copied.
  const ends: number[] = [];
  const his: number[] = [];
  const los: number[] = [];
  for (let slot = 0, over = false; !over; slot++) {
    const pivot = node.index + node.pivot + slot * 8;
    const value = slot < slots - 1 ? numberOf(view.getInt32(pivot + 4, true), view.getInt32(pivot, true)) : highest;
    over = value >= highest || (value === 0 && slot > 0);
    const entry = node.index + first + slot * 8;
    const hi = view.getInt32(entry + 4, true);
    const lo = view.getInt32(entry, true);
    if (trail.recording) trail.pointer(at.hi, addLo(at.lo, first + slot * 8), hi, lo, entry);
    if ((hi | lo) === 0) continue;
    ends.push(over ? highest : value);
    his.push(hi);
    los.push(lo);
  }
  for (let i = 0; i < his.length; i++) {
    const [hi, lo] = [his[i]!, los[i]!];
    if (!leaf) {
      if (!walkNode(kernel, { hi, lo }, ends[i]!, height - 1, budget, visit)) return false;
    } else if (!isReserved({ hi, lo }) && !visit(hi, lo)) return false;
  }
  return true;
}

function isNode(entry: Halves): boolean {
  return (entry.lo & INTERNAL_MASK) === INTERNAL && (entry.hi !== 0 || entry.lo >>> 0 > MAX_RESERVED);
}

function isReserved(entry: Halves): boolean {
  return (entry.lo & INTERNAL_MASK) === INTERNAL && entry.hi === 0 && entry.lo >>> 0 <= MAX_RESERVED;
}
