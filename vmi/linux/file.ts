import type { Halves } from "../bytes/address.ts";
import { AddressMap } from "../bytes/address-map.ts";
import type { Integer } from "../bytes/integer.ts";
import { struct } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { isNull, pinInteger, plus, readCString, readInteger, readPointer, readU32, sameAddress } from "./read.ts";

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
/**
 * fs/file_table.c: what a file system that lies on others, such as an overlay, maps in place of the file that was opened. From
 * 6.7 (def3ae83da02) its f_path is the file below, and `user_path` what was opened; before, f_path is what was opened.
 */
const backingFile = struct("?backing_file", { user_path: "?user_path" });
/** include/linux/path.h */
const pathStruct = struct("path", { mnt: "mnt", dentry: "dentry" });
const pathMount = struct("vfsmount", { mnt_sb: "?mnt_sb" });
const dentryInode = struct("dentry", { d_inode: "d_inode" });
export const inode = struct("inode", {
  i_mode: "i_mode",
  i_uid: "i_uid",
  i_ino: "i_ino",
  i_size: "i_size",
  i_nlink: "i_nlink",
  i_sb: "i_sb",
  i_mapping: "i_mapping",
  i_sb_list: "i_sb_list",
  i_dentry: "?i_dentry",
  i_private: "?i_private",
  i_blkbits: "?i_blkbits",
});
export const superBlock = struct("super_block", {
  s_list: "s_list",
  s_flags: "s_flags",
  s_mounts: "?s_mounts",
  s_dev: "s_dev",
  s_type: "s_type",
  s_inodes: "s_inodes",
  s_magic: "?s_magic",
});

/** include/linux/fs.h: what has one was opened by the kernel for itself, as every backing file was. */
const FMODE_NOACCOUNT = 0x2000_0000;
/** Bit 25; bit 24 from 6.14 and in late releases of 6.12, where bit 25 has come to be one of fsnotify's. */
const FMODE_BACKING = 0x200_0000 | 0x100_0000;
/** include/uapi/linux/magic.h */
const HUGETLBFS_MAGIC = 0x958458f6;

const fileSystemType = struct("file_system_type", { name: "name" });
/** include/uapi/linux/stat.h: S_IFMT and the kinds below it. */
const S_IFMT = 0o170000;
const KINDS = new Map([
  [0o010000, "fifo"],
  [0o020000, "character"],
  [0o040000, "directory"],
  [0o060000, "block"],
  [0o100000, "regular"],
  [0o120000, "link"],
  [0o140000, "socket"],
]);

/** MKDEV's parts (include/linux/kdev_t.h) as `major:minor`. */
export function formatDevice(device: number): string {
  return `${device >>> 20}:${device & 0xfffff}`;
}

/** O_ACCMODE and O_PATH (include/uapi/asm-generic/fcntl.h) */
const O_ACCMODE = 3;
const O_PATH = 0o10000000;

/** How a file was opened, by its flags; undefined for O_PATH, which gives no access. */
export function openMode(flags: number): "r" | "w" | "rw" | undefined {
  return flags & O_PATH ? undefined : (["r", "w", "rw", "rw"] as const)[flags & O_ACCMODE];
}

export interface InodeFacts {
  readonly at: Halves;
  /** i_ino */
  readonly number: Integer | undefined;
  /** i_mode: kind and permissions. */
  readonly mode: number | undefined;
  /** Bytes. */
  readonly size: Integer | undefined;
  /** Owner: a kuid_t. */
  readonly uid: number | undefined;
  /** Links that it still has in directories. */
  readonly links: number | undefined;
  /** Of the file system that it is on, as MKDEV makes it. */
  readonly device: number | undefined;
  /** Address of the super_block. */
  readonly superBlock: Halves | undefined;
}

/**
 * What the inode of an open or mapped file tells, as fstat(2) and /proc/PID/maps show it: of one on an overlay the overlay's,
 * but before 6.7 the one below for a mapping. Undefined where there is none, or it can't be read.
 */
export function inodeFacts(kernel: Kernel, file: Halves): InodeFacts | undefined {
  const at = backingOf(kernel, file)?.inode ?? inodeOf(kernel, file);
  return at && factsOfInode(kernel, at);
}

/** Address of the struct path that a file was opened by (file_user_path()): what /proc shows of it. */
export function openedPath(kernel: Kernel, file: Halves): Halves {
  return backingOf(kernel, file)?.path ?? plus(file, kernel.layout(fileStruct).f_path);
}

/**
 * The inode of the path that a file was opened by: the same for an open file, a program and all mappings of them, also on
 * an overlay. Undefined when it can't be read.
 */
export function openedInode(kernel: Kernel, file: Halves): Halves | undefined {
  const { f_path } = kernel.layout(fileStruct);
  return backingOf(kernel, file)?.inode ?? inodeOfPath(kernel, plus(file, f_path)) ?? inodeOf(kernel, file);
}

/** Of what is mapped in place of the file that was opened: the path and the inode of that one. Undefined for other files. */
function backingOf(kernel: Kernel, file: Halves): { readonly path: Halves; readonly inode: Halves } | undefined {
  const { space } = kernel;
  const { user_path } = kernel.layout(backingFile);
  const { f_mode } = kernel.layout(fileStruct);
  const { mnt_sb } = kernel.layout(pathMount);
  if (user_path < 0 || f_mode < 0 || mnt_sb < 0) return undefined;
  const mode = readU32(space, file, f_mode) ?? 0;
  if ((mode & FMODE_NOACCOUNT) === 0 || (mode & FMODE_BACKING) === 0) return undefined;
  const path = plus(file, user_path);
  const found = inodeOfPath(kernel, path);
  const mount = found && readPointer(space, path, kernel.layout(pathStruct).mnt);
  if (mount === undefined || isNull(mount)) return undefined;
  // Either flag may mean something else: then no path is behind the struct file, or no whole one.
  const block = readPointer(space, mount, mnt_sb);
  const own = readPointer(space, found!, kernel.layout(inode).i_sb);
  return block && own && sameAddress(block, own) ? { path, inode: found! } : undefined;
}

/** The inode that the dentry of a struct path has. */
function inodeOfPath(kernel: Kernel, path: Halves): Halves | undefined {
  const dentry = readPointer(kernel.space, path, kernel.layout(pathStruct).dentry);
  if (dentry === undefined || isNull(dentry)) return undefined;
  const at = readPointer(kernel.space, dentry, kernel.layout(dentryInode).d_inode);
  return at === undefined || isNull(at) ? undefined : at;
}

/**
 * The inode of which a file's content is: of one that is mapped from an overlay, the one below, where the pages are.
 * Undefined where there is none, or it can't be read.
 */
export function inodeOf(kernel: Kernel, file: Halves): Halves | undefined {
  const { f_inode } = kernel.layout(fileStruct);
  const at = f_inode < 0 ? undefined : readPointer(kernel.space, file, f_inode);
  return at === undefined || isNull(at) ? undefined : at;
}

export function factsOfInode(kernel: Kernel, at: Halves): InodeFacts {
  const { space } = kernel;
  const layout = kernel.layout(inode);
  const mode = readU32(space, at, layout.i_mode);
  const block = readPointer(space, at, layout.i_sb);
  const known = block === undefined || isNull(block) ? undefined : block;
  return {
    at,
    number: pinInteger(space, at, layout.i_ino),
    mode: mode === undefined ? undefined : mode & 0xffff,
    size: readInteger(space, at, layout.i_size),
    uid: readU32(space, at, layout.i_uid),
    links: readU32(space, at, layout.i_nlink),
    device: known && readU32(space, known, kernel.layout(superBlock).s_dev),
    superBlock: known,
  };
}

/** True for an inode of hugetlbfs, whose files are made of huge pages. */
export function isHuge(kernel: Kernel, at: Halves): boolean {
  const { s_magic } = kernel.layout(superBlock);
  const block = s_magic < 0 ? undefined : readPointer(kernel.space, at, kernel.layout(inode).i_sb);
  return block !== undefined && !isNull(block) && readU32(kernel.space, block, s_magic) === HUGETLBFS_MAGIC;
}

/** FS_NAME_MAX: no file system type of Linux has a longer name. */
export const MAX_TYPE_NAME = 32;

/** Name of a super_block's file system, such as ext4. */
function fileSystemName(kernel: Kernel, block: Halves): string | undefined {
  const { space } = kernel;
  const type = readPointer(space, block, kernel.layout(superBlock).s_type);
  const name = type && readPointer(space, type, kernel.layout(fileSystemType).name);
  const bytes = name && readCString(space, name, MAX_TYPE_NAME);
  return bytes && Buffer.from(bytes).toString("latin1");
}

/** File systems of what is no file: stat(2) tells no kind for theirs, whatever their inodes have there. */
const ANONYMOUS: ReadonlySet<string | undefined> = new Set(["anon_inodefs", "pidfs"]);

/** What kind of file an inode is; "anonymous" for none, such as epolls and timers. Undefined when it can't be read. */
export function kindOf(kernel: Kernel, facts: InodeFacts, names: FileSystemNames): string | undefined {
  if (facts.mode === undefined || facts.superBlock === undefined) return undefined;
  if (ANONYMOUS.has(names.of(kernel, facts.superBlock))) return "anonymous";
  return KINDS.get(facts.mode & S_IFMT) ?? "anonymous";
}

/** Names of file systems, each read once. */
export class FileSystemNames {
  readonly #names = new AddressMap<{ readonly name: string | undefined }>();

  of(kernel: Kernel, block: Halves): string | undefined {
    let known = this.#names.get(block);
    if (known === undefined) {
      known = { name: fileSystemName(kernel, block) };
      this.#names.set(block, known);
    }
    return known.name;
  }
}
