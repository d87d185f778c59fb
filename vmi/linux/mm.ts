import type { Budget } from "../budget.ts";
import { addHi, addLo, type Halves, hiOf, loOf, PAGE_SHIFT, PAGE_SIZE } from "../bytes/address.ts";
import type { AddressSpace } from "../memory/address-space.ts";
import { struct } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { cpus, perCpu } from "./per-cpu.ts";
import { isNull, readNumber, readPointer, sameAddress } from "./read.ts";

/** include/linux/mm_types.h */
export const mmStruct = struct("mm_struct", {
  pgd: "pgd",
  total_vm: "total_vm",
  locked_vm: "?locked_vm",
  exe_file: "exe_file",
  arg_start: "arg_start",
  arg_end: "arg_end",
  env_start: "env_start",
  env_end: "env_end",
  rss_stat: "rss_stat",
});
/** Where the program's text begins: 0 until execve() has mapped the program (fs/binfmt_elf.c). */
export const mmCode = struct("mm_struct", { start_code: "start_code" });
/** From 6.2 (f1a7941243c1) each counter of `rss_stat` is a percpu_counter; before, an atomic_long_t. */
const percpuCounter = struct("?percpu_counter", { count: "count", counters: "?counters" });
const mmRssStat = struct("?mm_rss_stat", { count: "count" });

/** MM_FILEPAGES, MM_ANONPAGES, MM_SHMEMPAGES (include/linux/mm_types_task.h); MM_SWAPENTS, in between, is not resident. */
const RESIDENT_COUNTERS = [0, 1, 3];
const NULL: Halves = { hi: 0, lo: 0 };
/** Arguments and environment together can't be longer: three quarters of _STK_LIM (fs/exec.c). */
const MAX_ARGUMENTS = 6 << 20;

/**
 * Counts the resident pages of address spaces, with what the CPUs have not yet added up: VmRSS of /proc/PID/status, in
 * kernels that add it up there (get_mm_counter_sum). To be made anew for each request. Gives undefined where it can't be read.
 */
export function residentCounter(kernel: Kernel, budget: Budget): (mm: Halves) => number | undefined {
  const { space } = kernel;
  const { rss_stat } = kernel.layout(mmStruct);
  const before62 = kernel.layout(mmRssStat);
  const counter = kernel.layout(percpuCounter);
  const old = before62.sizeof > 0;
  const first = rss_stat + (old ? before62.count : counter.count);
  const size = old ? 8 : counter.sizeof;
  const hasParts = !old && counter.counters >= 0;
  const offsets = hasParts ? cpus(kernel).flatMap((cpu) => perCpu(kernel, NULL, cpu) ?? []) : [];
  return (mm) => {
    budget.spend(offsets.length);
    let pages = 0;
    for (const index of RESIDENT_COUNTERS) {
      const count = readNumber(space, mm, first + index * size);
      const parts = hasParts ? sumOfParts(space, mm, rss_stat + index * size + counter.counters, offsets) : 0;
      if (count === undefined || parts === undefined) return undefined;
      pages += Math.max(0, count + parts);
    }
    return pages;
  };
}

/** What CPUs have of a percpu_counter, of which the pointer to their parts is at `mm` and `member`. */
function sumOfParts(space: AddressSpace, mm: Halves, member: number, offsets: readonly Halves[]): number | undefined {
  const { view } = space.memory;
  const pointer = space.borrow(addHi(mm.hi, mm.lo, member), addLo(mm.lo, member), 8);
  if (pointer < 0) return undefined;
  const hi = view.getInt32(pointer + 4, true);
  const lo = view.getInt32(pointer, true);
  if ((hi | lo) === 0) return 0;
  let sum = 0;
  for (const offset of offsets) {
    const low = (lo >>> 0) + (offset.lo >>> 0);
    const part = space.borrow((hi + offset.hi + (low > 0xffff_ffff ? 1 : 0)) | 0, low | 0, 4);
    if (part < 0) return undefined;
    sum += view.getInt32(part, true);
  }
  return sum;
}

/** The address space of a process, by its own page tables; good until the next call. Undefined when its mm can't be read. */
export function userSpace(kernel: Kernel, mm: Halves): AddressSpace | undefined {
  const { pgd } = kernel.layout(mmStruct);
  const top = readPointer(kernel.space, mm, pgd);
  const gpa = top && kernel.space.translate(top.hi, top.lo)?.gpa;
  if (gpa === undefined) return undefined;
  if (kernel.user.pgd !== gpa) kernel.user.switchTo(gpa);
  return kernel.user;
}

/** The bytes between two of the process's own addresses; undefined when they are not all in memory. */
export function readUserSpan(
  kernel: Kernel,
  mm: Halves,
  startMember: number,
  endMember: number,
  budget: Budget,
): Uint8Array | undefined {
  const start = readPointer(kernel.space, mm, startMember);
  const end = readPointer(kernel.space, mm, endMember);
  const space = userSpace(kernel, mm);
  if (start === undefined || end === undefined || space === undefined) return undefined;
  const length = distance(start, end);
  if (length <= 0) return EMPTY;
  if (length > MAX_ARGUMENTS) return undefined;
  budget.spend(1 + (length >>> PAGE_SHIFT));
  const bytes = Buffer.allocUnsafe(length);
  return space.read(start.hi, start.lo, bytes) === length ? bytes : undefined;
}

/**
 * The command line as /proc/PID/cmdline gives it (fs/proc/base.c: get_mm_cmdline): arguments that each end with a zero,
 * or, where a process wrote over their end (setproctitle), one string of at most a page that may go on into the environment.
 */
export function readArguments(kernel: Kernel, mm: Halves, budget: Budget): Uint8Array | undefined {
  const { arg_start, arg_end, env_start, env_end } = kernel.layout(mmStruct);
  const envEnd = readPointer(kernel.space, mm, env_end);
  // The process has not come far enough to have any.
  if (envEnd !== undefined && isNull(envEnd)) return EMPTY;
  const args = readUserSpan(kernel, mm, arg_start, arg_end, budget);
  if (args === undefined || args.length === 0 || args.at(-1) === 0) return args;
  const start = readPointer(kernel.space, mm, arg_start);
  const argEnd = readPointer(kernel.space, mm, arg_end);
  const envStart = readPointer(kernel.space, mm, env_start);
  const space = userSpace(kernel, mm);
  if (!(start && argEnd && envStart && envEnd && space)) return undefined;
  const beyond = sameAddress(argEnd, envStart) ? Math.max(0, distance(envStart, envEnd)) : 0;
  const title = new Uint8Array(Math.min(PAGE_SIZE, args.length + beyond));
  const length = space.read(start.hi, start.lo, title);
  const zero = title.subarray(0, length).indexOf(0);
  return title.subarray(0, zero < 0 ? length : zero + 1);
}

const EMPTY = new Uint8Array(0);

/** Bytes from one address to another, exact where they are near. */
function distance(from: Halves, to: Halves): number {
  return (to.hi - from.hi) * 0x1_0000_0000 + ((to.lo >>> 0) - (from.lo >>> 0));
}

/** Halves of an address that comes from outside. */
export function halvesOf(address: bigint): Halves {
  return { hi: hiOf(address), lo: loOf(address) };
}
