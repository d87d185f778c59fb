import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import { struct } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { isNull, plus, readPointer } from "./read.ts";

/** include/linux/xarray.h, from 4.20 (f8d5d0cc145c); radix trees and IDRs are made of them. */
const xarray = struct("?xarray", { xa_head: "xa_head" });
const xaNode = struct("?xa_node", { shift: "shift", slots: "slots" });
/** include/linux/idr.h; idr_base from 4.16 (6ce711f27500). */
const idrStruct = struct("?idr", { idr_rt: "idr_rt", idr_base: "?idr_base" });

/** XA_CHUNK_SIZE; it is 16 with CONFIG_BASE_SMALL, which no kernel of a server has. */
const SLOTS = 64;
const POINTER = 8;
const MAX_SHIFT = 60;
/** The lowest bits of an entry: 01 a value, 10 internal (a node, or a small number for a sibling or special entry). */
const INTERNAL = 2;
const KIND_MASK = 3;
const MAX_SPECIAL = 4096;

/**
 * Visits the entries of a struct xarray (or radix_tree_root) by ascending index. An entry that covers several indices is
 * visited once, at its first, with their number; values (odd numbers) are visited as they are.
 *
 * @param visit returns false to stop
 * @returns false when part of it could not be read, or there was more than `maximum`
 */
export function walkXarray(
  kernel: Kernel,
  xa: Halves,
  maximum: number,
  budget: Budget,
  visit: (index: number, entry: Halves, count: number) => boolean,
): boolean {
  const offsets = nodeOffsets(kernel);
  const head = offsets && readPointer(kernel.space, xa, offsets.head);
  if (offsets === undefined || head === undefined) return false;
  if (isNull(head)) return true;
  let left = maximum;
  let stopped = false;
  const emit = (index: number, entry: Halves, count: number): boolean => {
    if (left-- <= 0) return false;
    stopped = !visit(index, entry, count);
    return !stopped;
  };
  const walkNode = (at: Halves, base: number, above: number): boolean => {
    const shift = shiftOf(kernel, at, offsets.shift);
    // Every level must be below the last, so no loop of nodes is followed for long.
    if (shift === undefined || shift >= above || shift > MAX_SHIFT) return false;
    for (let slot = 0; slot < SLOTS; slot++) {
      budget.spend();
      const entry = readPointer(kernel.space, at, offsets.slots + slot * POINTER);
      if (entry === undefined) return false;
      if (isNull(entry)) continue;
      const index = base + slot * 2 ** shift;
      if (isNode(entry)) {
        if (!walkNode(nodeAt(entry), index, shift)) return false;
      } else if ((entry.lo & KIND_MASK) !== INTERNAL) {
        let slots = 1;
        while (
          slot + slots < SLOTS &&
          isSiblingOf(readPointer(kernel.space, at, offsets.slots + (slot + slots) * POINTER), slot)
        )
          slots++;
        if (!emit(index, entry, slots * 2 ** shift)) return false;
      }
    }
    return true;
  };
  const complete = isNode(head) ? walkNode(nodeAt(head), 0, Number.POSITIVE_INFINITY) : emit(0, head, 1);
  return complete || stopped;
}

/** The entry at an index; undefined where there is none, or it can't be read. */
export function xarrayEntry(kernel: Kernel, xa: Halves, index: number): Halves | undefined {
  const offsets = nodeOffsets(kernel);
  let entry = offsets && readPointer(kernel.space, xa, offsets.head);
  if (offsets === undefined || entry === undefined) return undefined;
  if (!isNode(entry)) return index === 0 && !isNull(entry) ? entry : undefined;
  for (let above = Number.POSITIVE_INFINITY; isNode(entry); ) {
    const node = nodeAt(entry);
    const shift = shiftOf(kernel, node, offsets.shift);
    if (shift === undefined || shift >= above || shift > MAX_SHIFT) return undefined;
    const slot = Math.floor(index / 2 ** shift);
    if (above === Number.POSITIVE_INFINITY && slot >= SLOTS) return undefined;
    above = shift;
    let next = readPointer(kernel.space, node, offsets.slots + (slot % SLOTS) * POINTER);
    // A sibling stands for the slot whose number it holds.
    if (next !== undefined && (next.lo & KIND_MASK) === INTERNAL && !isNode(next))
      next = readPointer(kernel.space, node, offsets.slots + (next.lo >>> 2) * POINTER);
    if (next === undefined) return undefined;
    entry = next;
  }
  return isNull(entry) || (entry.lo & KIND_MASK) === INTERNAL ? undefined : entry;
}

/** Visits what an IDR holds, by ascending id; see walkXarray. */
export function walkIdr(
  kernel: Kernel,
  idr: Halves,
  maximum: number,
  budget: Budget,
  visit: (id: number, entry: Halves) => boolean,
): boolean {
  const { idr_rt, idr_base } = kernel.layout(idrStruct);
  const base = idr_base < 0 ? 0 : (readPointer(kernel.space, idr, idr_base)?.lo ?? 0) >>> 0;
  return walkXarray(kernel, plus(idr, idr_rt), maximum, budget, (index, entry) => visit(index + base, entry));
}

function nodeOffsets(kernel: Kernel): { head: number; shift: number; slots: number } | undefined {
  const { xa_head } = kernel.layout(xarray);
  const { shift, slots } = kernel.layout(xaNode);
  return xa_head < 0 || slots < 0 ? undefined : { head: xa_head, shift, slots };
}

/** True for an entry that says: what is here is in that slot of the same node. */
function isSiblingOf(entry: Halves | undefined, slot: number): boolean {
  return entry !== undefined && entry.hi === 0 && (entry.lo & KIND_MASK) === INTERNAL && entry.lo >>> 2 === slot;
}

function isNode(entry: Halves): boolean {
  return (entry.lo & KIND_MASK) === INTERNAL && (entry.hi !== 0 || entry.lo >>> 0 > MAX_SPECIAL);
}

function nodeAt(entry: Halves): Halves {
  return { hi: entry.hi, lo: entry.lo & ~KIND_MASK };
}

function shiftOf(kernel: Kernel, node: Halves, offset: number): number | undefined {
  const at = plus(node, offset);
  const index = kernel.space.resolve(at.hi, at.lo);
  return index < 0 ? undefined : kernel.memory.bytes[index];
}
