import type { Halves } from "../bytes/address.ts";
import { struct } from "../symbols/specs.ts";
import { isHuge } from "./file.ts";
import type { Kernel } from "./kernel.ts";
import { readU32 } from "./read.ts";

/** include/linux/shmem_fs.h and hugetlb.h: the inode of a file of tmpfs or, with MFD_HUGETLB, of hugetlbfs is within it. */
const shmemInode = struct("?shmem_inode_info", { seals: "seals", vfs_inode: "vfs_inode" });
const hugeInode = struct("?hugetlbfs_inode_info", { seals: "seals", vfs_inode: "vfs_inode" });

/** The first letters of a memfd's name (mm/memfd.c: MFD_NAME_PREFIX), behind the slash. */
export const MEMFD_PREFIX = Buffer.from("/memfd:");

/** F_SEAL_ flags by bit (include/uapi/linux/fcntl.h) */
const SEALS = ["seal", "shrink", "grow", "write", "future_write", "exec"];

/** Names of a memfd's seals, separated by commas. `inode` must be one of tmpfs or hugetlbfs. Undefined when unreadable. */
export function sealsOf(kernel: Kernel, inode: Halves): string | undefined {
  const { seals, vfs_inode } = kernel.layout(isHuge(kernel, inode) ? hugeInode : shmemInode);
  const flags = seals < 0 ? undefined : readU32(kernel.space, inode, seals - vfs_inode);
  return flags === undefined ? undefined : SEALS.filter((_, bit) => (flags >>> bit) & 1).join();
}
