import type { Budget } from "../budget.ts";
import { type Halves, numberOf } from "../bytes/address.ts";
import { struct, symbol } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { walkList } from "./list.ts";
import { isNull, plus, readCString, readPointer, readU32, sameAddress } from "./read.ts";
import { taskStruct } from "./task-struct.ts";
import { walkProcesses } from "./tasks.ts";

const defaultRoot = symbol("?cgrp_dfl_root");
const subsystems = symbol("?cgroup_subsys");
/** Controllers that the unified hierarchy does not offer, that need no enabling, and that threads may be under. */
const inhibited = symbol("?cgrp_dfl_inhibit_ss_mask");
const implicit = symbol("?cgrp_dfl_implicit_ss_mask");
const threadable = symbol("?cgrp_dfl_threaded_ss_mask");

/** include/linux/cgroup-defs.h */
const cgroupRoot = struct("?cgroup_root", { cgrp: "cgrp", subsys_mask: "subsys_mask" });
const cgroup = struct("?cgroup", {
  cssFlags: "self.flags",
  children: "self.children",
  sibling: "self.sibling",
  kn: "kn",
  flags: "flags",
  subtree_control: "subtree_control",
  subtree_ss_mask: "subtree_ss_mask",
  dom_cgrp: "dom_cgrp",
});
const subsystem = struct("?cgroup_subsys", { name: "name" });
/** From 5.5 (67c0496e87d1) `id` is a u64; before, a union of inode number and generation. */
const kernfsNode = struct("?kernfs_node", { name: "name", id: "id" });
const cssSet = struct("?css_set", { dfl_cgrp: "dfl_cgrp" });
const signal = struct("signal_struct", { live: "live" });

const CSS_ONLINE = 2;
/** CGRP_FROZEN, from 5.2 (76f969e8948d) */
const FROZEN = 1 << 3;
const MAX_CGROUPS = 1 << 20;
const MAX_NAME = 255;
const SLASH = Buffer.from("/");

export interface Cgroup {
  readonly at: Halves;
  readonly path: Uint8Array;
  /** The inode number of its directory. */
  readonly id: number | undefined;
  /** Masks of controllers by number; see controllerNames(). */
  readonly controllers: number;
  readonly subtreeControl: number;
  /** In a threaded subtree. */
  readonly threaded: boolean;
  readonly frozen: boolean;
  /** Removed, and kept by what still refers to it. */
  readonly dying: boolean;
}

/**
 * The unified hierarchy from its root, each group before its children. `visit` returns false when no more are wanted.
 *
 * @param enter whether anything below a path is wanted: the root's is empty
 * @returns false when some could not be followed; undefined when the kernel has no such hierarchy
 */
export function walkCgroups(
  kernel: Kernel,
  enter: (path: Uint8Array) => boolean,
  budget: Budget,
  visit: (group: Cgroup) => boolean,
): { readonly complete: boolean; readonly retried: number } | undefined {
  const place = kernel.optionalPlace(defaultRoot);
  const root = kernel.layout(cgroupRoot);
  const layout = kernel.layout(cgroup);
  if (place === undefined || root.cgrp < 0 || layout.children < 0) return undefined;
  const top = plus(place, root.cgrp);
  const threads = maskAt(kernel, threadable);
  const offered =
    (readU32(kernel.space, place, root.subsys_mask) ?? 0) & ~maskAt(kernel, inhibited) & ~maskAt(kernel, implicit);
  const seen = new Set<number>();
  const pending: { at: Halves; parent: Uint8Array; offered: number }[] = [{ at: top, parent: EMPTY, offered }];
  let complete = true;
  let retried = 0;
  while (pending.length > 0) {
    budget.spend(ROW_COST);
    const { at, parent, offered: above } = pending.pop()!;
    const isRoot = sameAddress(at, top);
    const read = readGroup(kernel, at, isRoot);
    if (read === undefined || seen.size === MAX_CGROUPS || seen.has(addressKey(at))) {
      complete = false;
      continue;
    }
    seen.add(addressKey(at));
    const { name, ...group } = read;
    const below = isRoot ? EMPTY : Buffer.concat([parent, SLASH, name]);
    const controllers = group.threaded ? above & threads : above;
    if (!visit({ ...group, at, controllers, path: isRoot ? SLASH : below })) return { complete, retried };
    if (!enter(below)) continue;
    const children = walkList(kernel, plus(at, layout.children), layout.sibling, MAX_CGROUPS, budget);
    retried += children.retried;
    complete &&= children.complete;
    for (let i = children.count - 1; i >= 0; i--) {
      const child = { hi: children.hi[i]!, lo: children.lo[i]! };
      pending.push({ at: child, parent: below, offered: group.subtreeControl });
    }
  }
  return { complete, retried };
}

const EMPTY = Buffer.alloc(0);
/** A group is several structures apart. */
const ROW_COST = 16;

function readGroup(kernel: Kernel, at: Halves, isRoot: boolean) {
  const { space } = kernel;
  const layout = kernel.layout(cgroup);
  const node = kernel.layout(kernfsNode);
  const kn = readPointer(space, at, layout.kn);
  const cssFlags = readU32(space, at, layout.cssFlags);
  const domain = readPointer(space, at, layout.dom_cgrp);
  const control = readU32(space, at, layout.subtree_control);
  const nameAt = kn && readPointer(space, kn, node.name);
  const name = isRoot ? EMPTY : nameAt && readCString(space, nameAt, MAX_NAME);
  if (kn === undefined || cssFlags === undefined || domain === undefined || control === undefined || !name)
    return undefined;
  const id = readPointer(space, kn, node.id);
  // The next member begins where this one ends: u16, or u32 in newer kernels.
  const narrow = layout.subtree_ss_mask - layout.subtree_control === 2;
  return {
    name,
    id: id && numberOf(id.hi, id.lo),
    subtreeControl: narrow ? control & 0xffff : control,
    threaded: !sameAddress(domain, at),
    frozen: ((readU32(space, at, layout.flags) ?? 0) & FROZEN) !== 0,
    dying: (cssFlags & CSS_ONLINE) === 0,
  };
}

/** The masks are u16, and u32 in newer kernels; where a u16 is followed by another, that one names no controller here. */
function maskAt(kernel: Kernel, spec: ReturnType<typeof symbol>): number {
  const place = kernel.optionalPlace(spec);
  const layout = kernel.layout(cgroup);
  const value = (place && readU32(kernel.space, place)) ?? 0;
  return layout.subtree_ss_mask - layout.subtree_control === 2 ? value & 0xffff : value;
}

/** Names of controllers by number, as far as a mask has them: looked up once. */
export class ControllerNames {
  readonly #kernel: Kernel;
  readonly #names = new Map<number, Uint8Array>();

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }

  /** Separated by spaces, in the order of cgroup.controllers; undefined when a name can't be read. */
  of(mask: number): Uint8Array | undefined {
    const parts: Uint8Array[] = [];
    for (let bit = 0; bit < 32; bit++) {
      if (((mask >>> bit) & 1) === 0) continue;
      const name = this.#name(bit);
      if (name === undefined) return undefined;
      parts.push(...(parts.length > 0 ? [SPACE] : []), name);
    }
    return Buffer.concat(parts);
  }

  #name(bit: number): Uint8Array | undefined {
    const known = this.#names.get(bit);
    if (known !== undefined) return known;
    const { space } = this.#kernel;
    const layout = this.#kernel.layout(subsystem);
    const array = this.#kernel.optionalPlace(subsystems);
    const entry = array && layout.name >= 0 ? readPointer(space, array, bit * 8) : undefined;
    const nameAt = entry && readPointer(space, entry, layout.name);
    const name = nameAt && readCString(space, nameAt, 32);
    if (name !== undefined) this.#names.set(bit, name);
    return name;
  }
}

const SPACE = Buffer.from(" ");

/** How many processes are in each group of the unified hierarchy, as cgroup.procs has them: without those that have ended. */
export function countProcesses(
  kernel: Kernel,
  budget: Budget,
): { of: (group: Halves) => number; complete: boolean; retried: number } {
  const { space } = kernel;
  const task = kernel.layout(taskStruct);
  const { live } = kernel.layout(signal);
  const { dfl_cgrp } = kernel.layout(cssSet);
  const counts = new Map<number, number>();
  const list = walkProcesses(kernel, budget);
  for (let i = 0; i < list.count; i++) {
    budget.spend();
    const at = { hi: list.hi[i]!, lo: list.lo[i]! };
    const group = readPointer(space, at, task.signal);
    const set = readPointer(space, at, task.cgroups);
    if (group === undefined || set === undefined || isNull(set) || readU32(space, group, live) === 0) continue;
    const member = readPointer(space, set, dfl_cgrp);
    if (member !== undefined) counts.set(addressKey(member), (counts.get(addressKey(member)) ?? 0) + 1);
  }
  return { of: (group) => counts.get(addressKey(group)) ?? 0, complete: list.complete, retried: list.retried };
}

/** A number of its own for each address of the kernel's: without the top bits, which are the same in all. */
function addressKey(at: Halves): number {
  return numberOf(at.hi & 0x1f_ffff, at.lo);
}
