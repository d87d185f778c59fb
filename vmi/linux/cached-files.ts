import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import { struct } from "../symbols/specs.ts";
import { descend, inodeOfDentry } from "./dentry-tree.ts";
import { FileSystemNames, inode } from "./file.ts";
import { walkHlist } from "./hlist.ts";
import type { Kernel } from "./kernel.ts";
import { isListed } from "./list.ts";
import { anyMountOf, isInternal, mountStruct } from "./mounts.ts";
import { cachedPages, walkFileSystems, walkInodes } from "./page-cache.ts";
import { pathFrom, type ResolvedPath } from "./path.ts";
import { plus, readNumber, readPointer } from "./read.ts";
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
 * @param wanted inode numbers; undefined: all
 * @param visit returns false to stop
 * @returns false when some could not be followed
 */
export function walkCachedFiles(
  kernel: Kernel,
  wanted: ReadonlySet<number> | undefined,
  budget: Budget,
  unit: Unit,
  visit: (file: CachedFile) => boolean,
): boolean {
  const blocks = walkFileSystems(kernel, budget);
  let { complete } = blocks;
  for (let b = 0; b < blocks.count; b++) {
    const walked = walkBlock(kernel, { hi: blocks.hi[b]!, lo: blocks.lo[b]! }, wanted, budget, unit, visit);
    complete &&= walked.complete;
    if (walked.stopped) break;
  }
  return complete;
}

/** The inodes of one file system that have pages in memory. */
function walkBlock(
  kernel: Kernel,
  block: Halves,
  wanted: ReadonlySet<number> | undefined,
  budget: Budget,
  unit: Unit,
  visit: (file: CachedFile) => boolean,
): { complete: boolean; stopped: boolean } {
  const { i_ino, i_sb_list } = kernel.layout(inode);
  const inodes = walkInodes(kernel, block, budget);
  const { complete } = inodes;
  let mount: Halves | undefined;
  for (let i = 0; i < inodes.count; i++) {
    const at = { hi: inodes.hi[i]!, lo: inodes.lo[i]! };
    if (wanted?.has(readNumber(kernel.space, at, i_ino) ?? -1) === false) continue;
    if (!((cachedPages(kernel, at) ?? 0) > 0)) continue;
    mount ??= anyMountOf(kernel, block, budget);
    const more = unit(
      () => "a file",
      () => {
        const pages = isListed(kernel, plus(at, i_sb_list)) ? cachedPages(kernel, at) : undefined;
        return pages === undefined || pages <= 0 || visit({ at, superBlock: block, pages, mount });
      },
    );
    if (!more) return { complete, stopped: true };
  }
  return { complete, stopped: false };
}

/**
 * As walkCachedFiles(), of files that may have one of these paths: it goes down the names of each path, and looks at no
 * other inode but on file systems of the kernel's own, where files such as memfds are in no directory.
 *
 * @param note told of paths on an overlay, which has no pages of its own, and whose inodes' types the kernel may have in a module
 */
export function walkCachedFilesAt(
  kernel: Kernel,
  paths: ReadonlySet<string>,
  budget: Budget,
  unit: Unit,
  visit: (file: CachedFile) => boolean,
  note: (text: string) => void,
): boolean {
  const layout = kernel.layout(mountStruct);
  const { i_sb_list } = kernel.layout(inode);
  const names = new FileSystemNames();
  const blocks = walkFileSystems(kernel, budget);
  let { complete } = blocks;
  for (let b = 0; b < blocks.count; b++) {
    const block = { hi: blocks.hi[b]!, lo: blocks.lo[b]! };
    const mount = anyMountOf(kernel, block, budget);
    const root = mount && readPointer(kernel.space, mount, layout.mnt_root);
    // Mounted nowhere: its files have no paths.
    if (mount === undefined || root === undefined) continue;
    const within = pathFrom(kernel, plus(mount, layout.mnt), root, budget)?.bytes;
    if (within === undefined) continue;
    const above = Buffer.from(within).toString();
    if (isInternal(kernel, mount)) {
      const walked = walkBlock(kernel, block, undefined, budget, unit, visit);
      complete &&= walked.complete;
      if (walked.stopped) return complete;
      continue;
    }
    const isOverlay = names.of(kernel, block) === "overlay";
    const seen = new Set<string>();
    for (const path of paths) {
      const parts = namesBelow(above, path);
      if (parts === undefined) continue;
      const descent = descend(kernel, root, parts, budget);
      complete &&= descent.complete;
      if (isOverlay && descent.found.length > 0)
        note(
          `${path} is on an overlay: what is in memory of it is under the path of the file in its upper or lower layer`,
        );
      for (const at of descent.found.flatMap((entry) => inodeOfDentry(kernel, entry) ?? [])) {
        const key = `${at.hi}:${at.lo}`;
        if (seen.has(key)) continue;
        seen.add(key);
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
  }
  return complete;
}

/** Names from a directory to a path; undefined when the path is not below it. */
function namesBelow(directory: string, path: string): string[] | undefined {
  const prefix = directory === "/" ? "" : directory;
  if (path !== prefix && !path.startsWith(`${prefix}/`)) return undefined;
  return path
    .slice(prefix.length)
    .split("/")
    .filter((name) => name !== "");
}

/** A name of an inode, by the first mount of its file system; undefined when no dentry of it is in memory, or it is mounted nowhere. */
export function pathOfInode(kernel: Kernel, file: CachedFile, budget: Budget): ResolvedPath | undefined {
  const { i_dentry } = kernel.layout(inode);
  const { d_alias } = kernel.layout(dentry);
  if (file.mount === undefined || i_dentry < 0 || d_alias < 0) return undefined;
  const aliases = walkHlist(kernel, plus(file.at, i_dentry), d_alias, 1, budget);
  if (aliases.count === 0) return undefined;
  const mnt = plus(file.mount, kernel.layout(mountStruct).mnt);
  const path = pathFrom(kernel, mnt, { hi: aliases.hi[0]!, lo: aliases.lo[0]! }, budget);
  // From 6.9 the kernel opens block devices by files of its own, of which the dentry has no name (fs/file_table.c: alloc_file_pseudo).
  return path?.rootless && path.bytes.length === 1 ? undefined : path;
}
