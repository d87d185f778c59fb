import type { Halves } from "../bytes/address.ts";
import { struct } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { isNull, readPointer, readU32 } from "./read.ts";

/** include/linux/fs.h */
export const fileStruct = struct("file", {
  f_path: "f_path",
  f_inode: "?f_inode",
  f_op: "?f_op",
  f_mode: "?f_mode",
  f_flags: "?f_flags",
  f_pos: "?f_pos",
  private_data: "?private_data",
});
export const inode = struct("inode", {
  i_mode: "i_mode",
  i_uid: "i_uid",
  i_gid: "i_gid",
  i_ino: "i_ino",
  i_rdev: "i_rdev",
  i_size: "i_size",
  i_nlink: "i_nlink",
  i_sb: "i_sb",
  i_mapping: "i_mapping",
  i_sb_list: "i_sb_list",
  i_fop: "i_fop",
});
export const superBlock = struct("super_block", {
  s_list: "s_list",
  s_dev: "s_dev",
  s_type: "s_type",
  s_inodes: "s_inodes",
  s_id: "s_id",
});

/** include/uapi/linux/stat.h: S_IFMT and the kinds below it. */
const S_IFMT = 0o170000;
const KINDS: Readonly<Record<number, string>> = {
  2401: "fifo",
  4802: "character",
  9604: "directory",
  14406: "block",
  16807: "regular",
  21609: "link",
  26411: "socket",
};

/** What kind of file a mode tells of; "anonymous" for none, as the inode has that all epolls, timers and the like share. */
export function kindOf(mode: number): string {
  return KINDS[mode & S_IFMT] ?? "anonymous";
}

/** MKDEV's parts (include/linux/kdev_t.h) as `major:minor`. */
export function formatDevice(device: number): string {
  return `${device >>> 20}:${device & 0xfffff}`;
}

/** The inode of an open file; undefined where there is none, or it can't be read. */
export function inodeOf(kernel: Kernel, file: Halves): Halves | undefined {
  const at = readPointer(kernel.space, file, kernel.layout(fileStruct).f_inode);
  return at === undefined || isNull(at) ? undefined : at;
}

/** umode_t, 16 bits. */
export function modeOf(kernel: Kernel, at: Halves): number | undefined {
  const value = readU32(kernel.space, at, kernel.layout(inode).i_mode);
  return value === undefined ? undefined : value & 0xffff;
}

/** Number of the device that the inode's file system is on, as MKDEV makes it. */
export function deviceOf(kernel: Kernel, at: Halves): number | undefined {
  const block = readPointer(kernel.space, at, kernel.layout(inode).i_sb);
  return block === undefined || isNull(block)
    ? undefined
    : readU32(kernel.space, block, kernel.layout(superBlock).s_dev);
}
