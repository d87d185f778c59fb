import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import { struct } from "../symbols/specs.ts";
import { walkHlist } from "./hlist.ts";
import type { Kernel } from "./kernel.ts";
import { type Addresses, walkList } from "./list.ts";
import { isNull, plus, readCString, readPointer, readU32 } from "./read.ts";

/** include/linux/dcache.h; children in an hlist from 6.8 (da549bdd15c2), in a list before. */
const dentry = struct("dentry", {
  name: "d_name.name",
  len: "d_name.len",
  d_inode: "?d_inode",
  d_children: "?d_children",
  d_sib: "?d_sib",
  d_subdirs: "?d_subdirs",
  d_child: "?d_child",
});

const MAX_CHILDREN = 1 << 24;
const NAME_MAX = 255;
/** What a text has where bytes were not UTF-8. */
const REPLACEMENT = "\ufffd";

/** What was found of a path below a dentry. */
export interface Descent {
  /** Dentries of that name: beside the one in the directory there may be those that were removed and are still in use. */
  readonly found: readonly Halves[];
  readonly complete: boolean;
}

/** Goes down from a dentry by names, through what of its directories is in memory. */
export function descend(kernel: Kernel, from: Halves, names: readonly string[], budget: Budget): Descent {
  let found: Halves[] = [from];
  let complete = true;
  for (const name of names) {
    const below: Halves[] = [];
    for (const directory of found) {
      const children = childrenOf(kernel, directory, budget);
      complete &&= children?.complete ?? false;
      for (let i = 0; i < (children?.count ?? 0); i++) {
        const child = { hi: children!.hi[i]!, lo: children!.lo[i]! };
        if (isNamed(kernel, child, name)) below.push(child);
      }
    }
    found = below;
  }
  return { found, complete };
}

/** The inode of a dentry; undefined where the name is known to be of none. */
export function inodeOfDentry(kernel: Kernel, at: Halves): Halves | undefined {
  const { d_inode } = kernel.layout(dentry);
  const inode = d_inode < 0 ? undefined : readPointer(kernel.space, at, d_inode);
  return inode === undefined || isNull(inode) ? undefined : inode;
}

function childrenOf(kernel: Kernel, at: Halves, budget: Budget): Addresses | undefined {
  const layout = kernel.layout(dentry);
  if (layout.d_children >= 0) return walkHlist(kernel, plus(at, layout.d_children), layout.d_sib, MAX_CHILDREN, budget);
  if (layout.d_subdirs < 0) return undefined;
  return walkList(kernel, plus(at, layout.d_subdirs), layout.d_child, MAX_CHILDREN, budget);
}

function isNamed(kernel: Kernel, at: Halves, name: string): boolean {
  const { space } = kernel;
  const layout = kernel.layout(dentry);
  const length = readU32(space, at, layout.len);
  if (length === undefined || length > NAME_MAX) return false;
  // Most others have another length; what was no UTF-8 has none that could be told.
  if (length !== Buffer.byteLength(name) && !name.includes(REPLACEMENT)) return false;
  const pointer = readPointer(space, at, layout.name);
  const bytes = pointer && readCString(space, pointer, length);
  return bytes !== undefined && Buffer.from(bytes).toString() === name;
}
