import type { Halves } from "../bytes/address.ts";
import { AddressMap } from "../bytes/address-map.ts";
import type { Integer } from "../bytes/integer.ts";
import { struct } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { isNull, pinInteger, readCString, readInteger, readPointer, readU32 } from "./read.ts";

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

/** What the inode of an open file tells; undefined where there is none, or it can't be read. */
export function inodeFacts(kernel: Kernel, file: Halves): InodeFacts | undefined {
  const at = inodeOf(kernel, file);
  return at && factsOfInode(kernel, at);
}

/** The inode of an open file; undefined where there is none, or it can't be read. */
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
