import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import { struct } from "../symbols/specs.ts";
import { inode } from "./file.ts";
import { walkHlist } from "./hlist.ts";
import type { Kernel } from "./kernel.ts";
import { isListed } from "./list.ts";
import { anyMountOf, mountStruct } from "./mounts.ts";
import { cachedPages, walkFileSystems, walkInodes } from "./page-cache.ts";
import { pathFrom, type ResolvedPath } from "./path.ts";
import { plus } from "./read.ts";
import type { Unit } from "./unit.ts";

/** include/linux/dcache.h */
const dentry = struct("dentry", { d_alias: "?d_u.d_alias" });

export interface CachedFile {
  /** Address of the inode. */
  readonly at: Halves;
  readonly superBlock: Halves;
  readonly pages: number;
  /** The first mount of its file system. */
  readonly mount: Halves | undefined;
}

/**
 * Visits every inode that has pages in memory, file system by file system.
 *
 * @param visit returns false to stop
 * @returns false when some could not be followed
 */
export function walkCachedFiles(
  kernel: Kernel,
  budget: Budget,
  unit: Unit,
  visit: (file: CachedFile) => boolean,
): boolean {
  const { i_sb_list } = kernel.layout(inode);
  const blocks = walkFileSystems(kernel, budget);
  let { complete } = blocks;
  for (let b = 0; b < blocks.count; b++) {
    const block = { hi: blocks.hi[b]!, lo: blocks.lo[b]! };
    const inodes = walkInodes(kernel, block, budget);
    complete &&= inodes.complete;
    let mount: Halves | undefined;
    for (let i = 0; i < inodes.count; i++) {
      const at = { hi: inodes.hi[i]!, lo: inodes.lo[i]! };
      if (!((cachedPages(kernel, at) ?? 0) > 0)) continue;
      mount ??= anyMountOf(kernel, block, budget);
      const more = unit(
        () => "a file",
        () => {
          const pages = isListed(kernel, plus(at, i_sb_list)) ? cachedPages(kernel, at) : undefined;
          return pages === undefined || pages <= 0 || visit({ at, superBlock: block, pages, mount });
        },
      );
      if (!more) return complete;
    }
  }
  return complete;
}

/** A name of an inode, by the first mount of its file system; undefined when no dentry of it is in memory, or it is mounted nowhere. */
export function pathOfInode(kernel: Kernel, file: CachedFile, budget: Budget): ResolvedPath | undefined {
  const { i_dentry } = kernel.layout(inode);
  const { d_alias } = kernel.layout(dentry);
  if (file.mount === undefined || i_dentry < 0 || d_alias < 0) return undefined;
  const aliases = walkHlist(kernel, plus(file.at, i_dentry), d_alias, 1, budget);
  if (aliases.count === 0) return undefined;
  const mnt = plus(file.mount, kernel.layout(mountStruct).mnt);
  return pathFrom(kernel, mnt, { hi: aliases.hi[0]!, lo: aliases.lo[0]! }, budget);
}
