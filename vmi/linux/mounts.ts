import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import { struct } from "../symbols/specs.ts";
import { superBlock } from "./file.ts";
import { namespaceLink } from "./file-link.ts";
import type { Kernel } from "./kernel.ts";
import { type Addresses, walkList } from "./list.ts";
import { pathWithin } from "./path.ts";
import { walkRbTree } from "./rbtree.ts";
import { isNull, plus, readCString, readPointer, readU32, sameAddress } from "./read.ts";

/** fs/mount.h */
export const mountStruct = struct("mount", {
  mnt: "mnt",
  mnt_root: "mnt.mnt_root",
  mnt_sb: "mnt.mnt_sb",
  mnt_flags: "mnt.mnt_flags",
  mnt_parent: "mnt_parent",
  mnt_devname: "mnt_devname",
  mnt_id: "mnt_id",
  mnt_ns: "mnt_ns",
  mnt_instance: "?mnt_instance",
  mnt_list: "?mnt_list",
  mnt_node: "?mnt_node",
});
const dentry = struct("dentry", { d_inode: "d_inode" });
const dentryName = struct("dentry", { name: "d_name.name", len: "d_name.len" });
const mountPoint = struct("mount", { mnt_mountpoint: "mnt_mountpoint" });
/** bd_device within it from 5.11 (0d02129e76ed). */
const superBlockDevice = struct("super_block", { s_bdev: "?s_bdev" });
const blockDevice = struct("?block_device", { name: "?bd_device.kobj.name" });
const namespace = struct("mnt_namespace", {
  list: "?list",
  mounts: "?mounts",
  /** From 6.8 (2eea9ce4310d), when `mounts` became the tree; it was their number before. */
  nr_mounts: "?nr_mounts",
});

/** sysctl_mount_max is 100,000 unless somebody raised it. */
const MAX_MOUNTS = 1 << 20;
const NAME_MAX = 255;
/** PATH_MAX */
const MAX_NAME = 4096;

/** The mounts (struct mount) of a struct mnt_namespace. */
export function walkMounts(kernel: Kernel, at: Halves, budget: Budget): Addresses {
  const layout = kernel.layout(namespace);
  const mount = kernel.layout(mountStruct);
  return layout.nr_mounts >= 0
    ? walkRbTree(kernel, plus(at, layout.mounts), mount.mnt_node, MAX_MOUNTS, budget)
    : walkList(kernel, plus(at, layout.list), mount.mnt_list, MAX_MOUNTS, budget);
}

/** False for a mount that is in a namespace no more: mnt_ns is cleared before it is freed (fs/namespace.c: umount_tree). */
export function isMountOf(kernel: Kernel, at: Halves, namespaceAt: Halves): boolean {
  const { mnt_ns } = kernel.layout(mountStruct);
  const now = readPointer(kernel.space, at, mnt_ns);
  return now !== undefined && sameAddress(now, namespaceAt);
}

/** What was mounted, as the mount call named it. */
export function mountDevice(kernel: Kernel, at: Halves): Uint8Array | undefined {
  const name = readPointer(kernel.space, at, kernel.layout(mountStruct).mnt_devname);
  return name && readCString(kernel.space, name, MAX_NAME);
}

/** What of its file system is mounted, as mountinfo has it: a path, or for a namespace that a file stands for `net:[7]`. */
export function mountRoot(
  kernel: Kernel,
  at: Halves,
  type: string | undefined,
  budget: Budget,
): Uint8Array | undefined {
  const root = readPointer(kernel.space, at, kernel.layout(mountStruct).mnt_root);
  if (root === undefined) return undefined;
  if (type !== "nsfs") return pathWithin(kernel, root, budget);
  const inode = readPointer(kernel.space, root, kernel.layout(dentry).d_inode);
  const link = inode && namespaceLink(kernel, inode);
  return link === undefined ? undefined : Buffer.from(link);
}

/** MNT_ flags by bit (include/linux/mount.h), in the order in which /proc/PID/mountinfo words them. */
const MNT_READONLY = 0x40;
const FLAGS = [
  [0x01, "nosuid"],
  [0x02, "nodev"],
  [0x04, "noexec"],
  [0x08, "noatime"],
  [0x10, "nodiratime"],
  [0x20, "relatime"],
  [0x80, "nosymfollow"],
] as const;

/** SB_ flags by bit (include/linux/fs.h), in the order of show_sb_opts() (fs/proc_namespace.c). */
const SB_RDONLY = 1;
const BLOCK_FLAGS = [
  [0x10, "sync"],
  [0x80, "dirsync"],
  [0x40, "mand"],
  [0x0200_0000, "lazytime"],
] as const;

/**
 * Options as /proc/mounts has them, those of the file system's own left out: what the mount and its file system allow
 * together, then options of the file system's, then the mount's.
 *
 * @param block the super_block
 */
export function mountFlags(kernel: Kernel, at: Halves, block: Halves): string | undefined {
  const flags = readU32(kernel.space, block, kernel.layout(superBlock).s_flags);
  const own = mountOptions(kernel, at)?.split(",");
  if (flags === undefined || own === undefined) return undefined;
  const words = BLOCK_FLAGS.filter(([bit]) => (flags & bit) !== 0).map(([, word]) => word);
  return [flags & SB_RDONLY ? "ro" : own[0], ...words, ...own.slice(1)].join();
}

/** Name of the block device that a file system is on, such as vda1; "none" for one without. */
export function blockDeviceName(kernel: Kernel, block: Halves): Uint8Array | "none" | "unsupported" | undefined {
  const { s_bdev } = kernel.layout(superBlockDevice);
  const { name } = kernel.layout(blockDevice);
  if (s_bdev < 0) return "unsupported";
  const device = readPointer(kernel.space, block, s_bdev);
  if (device === undefined) return undefined;
  if (isNull(device)) return "none";
  if (name < 0) return "unsupported";
  const at = readPointer(kernel.space, device, name);
  return at && readCString(kernel.space, at, NAME_MAX);
}

/** The last name of where a mount is, which spares the whole path where only some are wanted; / on the root of another mount. */
export function mountPointName(kernel: Kernel, at: Halves): Uint8Array | undefined {
  const point = readPointer(kernel.space, at, kernel.layout(mountPoint).mnt_mountpoint);
  if (point === undefined) return undefined;
  const layout = kernel.layout(dentryName);
  const length = readU32(kernel.space, point, layout.len);
  const name = readPointer(kernel.space, point, layout.name);
  return name === undefined || length === undefined || length > NAME_MAX
    ? undefined
    : readCString(kernel.space, name, length + 1);
}

/** Options of the mount itself, as mountinfo has them before the dash: `rw,nosuid,relatime`. */
export function mountOptions(kernel: Kernel, at: Halves): string | undefined {
  const flags = readU32(kernel.space, at, kernel.layout(mountStruct).mnt_flags);
  if (flags === undefined) return undefined;
  const words = FLAGS.filter(([bit]) => (flags & bit) !== 0).map(([, word]) => word);
  return [flags & MNT_READONLY ? "ro" : "rw", ...words].join();
}

/** A mount of the kernel's own (kern_mount), which is in no namespace: MNT_NS_INTERNAL, -EINVAL as a pointer. */
export function isInternal(kernel: Kernel, at: Halves): boolean {
  const namespace = readPointer(kernel.space, at, kernel.layout(mountStruct).mnt_ns);
  return namespace === undefined || namespace.hi === -1;
}

/** The first mount (struct mount) of a file system, whatever namespace it is in; undefined when it is mounted nowhere. */
export function anyMountOf(kernel: Kernel, block: Halves, budget: Budget): Halves | undefined {
  const { s_mounts } = kernel.layout(superBlock);
  const { mnt_instance } = kernel.layout(mountStruct);
  if (s_mounts < 0 || mnt_instance < 0) return undefined;
  const list = walkList(kernel, plus(block, s_mounts), mnt_instance, 1, budget);
  return list.count === 0 ? undefined : { hi: list.hi[0]!, lo: list.lo[0]! };
}
