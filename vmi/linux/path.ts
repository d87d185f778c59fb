import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import { struct } from "../symbols/specs.ts";
import { openedPath } from "./file.ts";
import type { Kernel } from "./kernel.ts";
import { Memo } from "./memo.ts";
import { isNull, pinU32, plus, readPointer, sameAddress } from "./read.ts";

/** include/linux/path.h */
const path = struct("path", { mnt: "mnt", dentry: "dentry" });
const dentry = struct("dentry", {
  d_parent: "d_parent",
  name: "d_name.name",
  hash_len: "d_name.hash_len",
  pprev: "d_hash.pprev",
  /** The sequence count that changes with the name; a type of its own from 5.9 (26475371976c). */
  d_seq: ["?d_seq.seqcount.sequence", "?d_seq.sequence"],
});
const vfsmount = struct("vfsmount", { mnt_root: "mnt_root" });
/** fs/mount.h */
const mount = struct("mount", { mnt: "mnt", mnt_parent: "mnt_parent", mnt_mountpoint: "mnt_mountpoint" });

const MAX_COMPONENTS = 4096;
/** A name is read at every step, which takes as long as several elements of a list. */
const STEP_COST = 8;
/** PATH_MAX */
const MAX_PATH = 4096;
const NAME_MAX = 255;

export interface ResolvedPath {
  readonly bytes: Uint8Array;
  /** The last name has been removed from its directory. */
  readonly deleted: boolean;
  /** In no directory: a socket, a pipe, a memfd. The path is only a name then, with a slash in front. */
  readonly rootless: boolean;
}

/** Paths, each found once in a request. */
export class Paths {
  readonly #kernel: Kernel;
  readonly #budget: Budget;
  /** By dentry, which is of one mount nearly always. */
  readonly #known: Memo<{ readonly mnt: Halves; readonly path: ResolvedPath | undefined }>;

  constructor(kernel: Kernel, budget: Budget) {
    this.#kernel = kernel;
    this.#budget = budget;
    this.#known = new Memo(kernel);
  }

  /** The path that an open or mapped file (`struct file`) was opened by, from the root of its mount namespace. */
  ofFile(at: Halves): ResolvedPath | undefined {
    return this.of(openedPath(this.#kernel, at));
  }

  /**
   * The path that a `struct path` means (fs/d_path.c: prepend_path): names up to the root of the mount, then on from where
   * that is mounted. Undefined when it can't be read or does not end.
   */
  of(at: Halves): ResolvedPath | undefined {
    const layout = this.#kernel.layout(path);
    const mnt = readPointer(this.#kernel.space, at, layout.mnt);
    const entry = readPointer(this.#kernel.space, at, layout.dentry);
    if (mnt === undefined || entry === undefined) return undefined;
    const find = () => pathFrom(this.#kernel, mnt, entry, this.#budget);
    const known = this.#known.of(entry, () => ({ mnt, path: find() }));
    return sameAddress(known.mnt, mnt) ? known.path : find();
  }
}

/** As Paths.of, for a mount (struct vfsmount) and a dentry of the file system that is mounted there. */
export function pathFrom(kernel: Kernel, mntAt: Halves, dentryAt: Halves, budget: Budget): ResolvedPath | undefined {
  const { space } = kernel;
  const offsets = { dentry: kernel.layout(dentry), mnt: kernel.layout(vfsmount), mount: kernel.layout(mount) };
  let [mnt, entry] = [mntAt, dentryAt];
  if (isNull(mnt) || isNull(entry)) return undefined;
  const parts: Uint8Array[] = [];
  let size = 0;
  const deleted = isDeleted(kernel, entry);
  for (let steps = 0; steps < MAX_COMPONENTS; steps++) {
    budget.spend(STEP_COST);
    const root = readPointer(space, mnt, offsets.mnt.mnt_root);
    if (root === undefined) return undefined;
    const parent = readPointer(space, entry, offsets.dentry.d_parent);
    if (parent === undefined) return undefined;
    const isMountRoot = sameAddress(entry, root);
    if (!isMountRoot && sameAddress(entry, parent)) {
      // A file without a directory, such as a memfd: only its name (simple_dname), and it counts as deleted.
      const name = parts.length === 0 ? nameOf(kernel, entry) : undefined;
      return name && { bytes: joined([name], name.length + 1), deleted: true, rootless: true };
    }
    if (isMountRoot) {
      const container = plus(mnt, -offsets.mount.mnt);
      const above = readPointer(space, container, offsets.mount.mnt_parent);
      const point = readPointer(space, container, offsets.mount.mnt_mountpoint);
      if (above === undefined || point === undefined) return undefined;
      if (sameAddress(above, container) || isNull(above)) {
        return { bytes: parts.length === 0 ? Buffer.from("/") : joined(parts, size), deleted, rootless: false };
      }
      mnt = plus(above, offsets.mount.mnt);
      entry = point;
      continue;
    }
    const name = nameOf(kernel, entry);
    if (name === undefined) return undefined;
    parts.push(name);
    size += name.length + 1;
    if (size > MAX_PATH) return undefined;
    entry = parent;
  }
  return undefined;
}

/** The path of a dentry within its own file system, whatever is mounted where. Undefined when it can't be read. */
export function pathWithin(kernel: Kernel, at: Halves, budget: Budget): Uint8Array | undefined {
  const layout = kernel.layout(dentry);
  const parts: Uint8Array[] = [];
  let size = 0;
  let entry = at;
  for (let steps = 0; steps < MAX_COMPONENTS; steps++) {
    budget.spend(STEP_COST);
    const parent = readPointer(kernel.space, entry, layout.d_parent);
    if (parent === undefined) return undefined;
    if (sameAddress(entry, parent)) return parts.length === 0 ? Buffer.from("/") : joined(parts, size);
    const name = nameOf(kernel, entry);
    if (name === undefined) return undefined;
    parts.push(name);
    size += name.length + 1;
    if (size > MAX_PATH) return undefined;
    entry = parent;
  }
  return undefined;
}

function nameOf(kernel: Kernel, entry: Halves): Uint8Array | undefined {
  const layout = kernel.layout(dentry);
  // A short name is in the dentry itself, and no pointer tells that it has become another: its hash does, also in a dentry
  // that was freed and is another's now, whose count begins anew.
  if (layout.d_seq >= 0) pinU32(kernel.space, entry, layout.d_seq);
  const length = readPointer(kernel.space, entry, layout.hash_len)?.hi;
  const at = readPointer(kernel.space, entry, layout.name);
  if (at === undefined || length === undefined || length < 0 || length > NAME_MAX) return undefined;
  const bytes = new Uint8Array(length);
  return kernel.space.read(at.hi, at.lo, bytes) === length ? bytes : undefined;
}

/** d_unlinked(): not hashed, and not a root. */
function isDeleted(kernel: Kernel, entry: Halves): boolean {
  const layout = kernel.layout(dentry);
  const pprev = readPointer(kernel.space, entry, layout.pprev);
  const parent = readPointer(kernel.space, entry, layout.d_parent);
  return pprev !== undefined && isNull(pprev) && parent !== undefined && !sameAddress(parent, entry);
}

function joined(parts: readonly Uint8Array[], size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  let at = 0;
  for (let i = parts.length - 1; i >= 0; i--) {
    bytes[at++] = 0x2f;
    bytes.set(parts[i]!, at);
    at += parts[i]!.length;
  }
  return bytes;
}
