import type { Halves } from "../bytes/address.ts";
import { struct, symbol } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { cpus, perCpu } from "./per-cpu.ts";
import { isNull, plus, readNumber, readPointer, readU32, sameAddress } from "./read.ts";

/** What statfs(2) asks a file system: s_op->statfs (include/linux/fs.h). */
const superBlock = struct("super_block", { s_op: "?s_op", s_fs_info: "?s_fs_info" });
const superOperations = struct("?super_operations", { statfs: "statfs" });
/** mm/shmem.c: tmpfs, and the kernel's own mounts of it. */
const shmemStatfs = symbol("?shmem_statfs");
/** fs/libfs.c, and in newer kernels fs/kernfs/mount.c: file systems without blocks, such as proc. */
const simpleStatfs = [symbol("?simple_statfs"), symbol("?kernfs_statfs")];
/** include/linux/shmem_fs.h; free_ispace, in bytes, from 6.6 (e07c469e979d), before free_inodes. */
const shmemInfo = struct("?shmem_sb_info", {
  max_blocks: "max_blocks",
  used_blocks: "used_blocks",
  max_inodes: "max_inodes",
  free_ispace: "?free_ispace",
  free_inodes: "?free_inodes",
});
const percpuCounter = struct("?percpu_counter", { count: "count", counters: "?counters" });

const PAGE_SIZE = 4096;
/** What tmpfs takes an inode to cost (mm/shmem.c). */
const BOGO_INODE_SIZE = 1024;

/** As statfs(2) tells it; 0 blocks or inodes where there is no limit to them. */
export interface StatFs {
  /** Bytes. */
  readonly blockSize: number;
  readonly blocks: number;
  readonly blocksFree: number;
  readonly inodes: number;
  readonly inodesFree: number;
}

/**
 * Sizes of the file systems that count alike in all kernels: tmpfs, and those without blocks. Others keep their own
 * counts in modules: "unsupported". Undefined where it can't be read.
 */
export function statFs(kernel: Kernel, block: Halves): StatFs | "unsupported" | undefined {
  const { space } = kernel;
  const layout = kernel.layout(superBlock);
  const { statfs } = kernel.layout(superOperations);
  if (layout.s_op < 0 || layout.s_fs_info < 0 || statfs < 0) return "unsupported";
  const operations = readPointer(space, block, layout.s_op);
  const called = operations && readPointer(space, operations, statfs);
  if (called === undefined) return undefined;
  const is = (spec: typeof shmemStatfs) => {
    const place = kernel.optionalPlace(spec);
    return place !== undefined && sameAddress(place, called);
  };
  if (simpleStatfs.some(is)) return { blockSize: PAGE_SIZE, blocks: 0, blocksFree: 0, inodes: 0, inodesFree: 0 };
  if (!is(shmemStatfs)) return "unsupported";
  const info = readPointer(space, block, layout.s_fs_info);
  return info && shmemSizes(kernel, info);
}

function shmemSizes(kernel: Kernel, info: Halves): StatFs | "unsupported" | undefined {
  const { space } = kernel;
  const layout = kernel.layout(shmemInfo);
  const free = layout.free_ispace < 0 ? layout.free_inodes : layout.free_ispace;
  if (layout.max_blocks < 0 || free < 0) return "unsupported";
  const blocks = readNumber(space, info, layout.max_blocks);
  const used = counterSum(kernel, plus(info, layout.used_blocks));
  const inodes = readNumber(space, info, layout.max_inodes);
  const left = readNumber(space, info, free);
  if (blocks === undefined || used === undefined || inodes === undefined || left === undefined) return undefined;
  const inodesFree = layout.free_ispace < 0 ? left : Math.floor(left / BOGO_INODE_SIZE);
  return {
    blockSize: PAGE_SIZE,
    blocks,
    blocksFree: blocks === 0 ? 0 : blocks - used,
    inodes,
    inodesFree: inodes === 0 ? 0 : inodesFree,
  };
}

/** The value of a struct percpu_counter with what CPUs have not yet added up (percpu_counter_sum). */
function counterSum(kernel: Kernel, at: Halves): number | undefined {
  const { space } = kernel;
  const layout = kernel.layout(percpuCounter);
  if (layout.count < 0) return undefined;
  let total = readNumber(space, at, layout.count);
  // Without SMP it is but a number.
  const counters = layout.counters < 0 ? undefined : readPointer(space, at, layout.counters);
  if (total === undefined || counters === undefined || isNull(counters)) return total;
  for (const cpu of cpus(kernel)) {
    const own = perCpu(kernel, counters, cpu);
    const part = own && readU32(space, own);
    if (part === undefined) return undefined;
    total += part | 0;
  }
  return total;
}
