import { type Halves, hiOf, loOf, numberOf } from "../bytes/address.ts";
import type { AddressSpace } from "../memory/address-space.ts";
import { struct } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { readNumber, readPointer } from "./read.ts";

/** include/linux/mm_types.h */
export const mmStruct = struct("mm_struct", {
  pgd: "pgd",
  total_vm: "total_vm",
  exe_file: "exe_file",
  arg_start: "arg_start",
  arg_end: "arg_end",
  env_start: "env_start",
  env_end: "env_end",
  rss_stat: "rss_stat",
});
/** From 6.2 (f1a7941243c1) each counter of `rss_stat` is a percpu_counter; before, an atomic_long_t. */
const percpuCounter = struct("?percpu_counter", { count: "count" });
const mmRssStat = struct("?mm_rss_stat", { count: "count" });

/** MM_FILEPAGES, MM_ANONPAGES, MM_SHMEMPAGES (include/linux/mm_types_task.h); MM_SWAPENTS, in between, is not resident. */
const RESIDENT_COUNTERS = [0, 1, 3];
/** Longer arguments and environments are cut: the kernel itself allows 2 MiB by default. */
export const MAX_ARGUMENTS = 4 << 20;

/**
 * Resident pages as /proc/PID/stat counts them (get_mm_rss): without what the CPUs have not yet added up.
 * Undefined when unreadable.
 */
export function residentPages(kernel: Kernel, mm: Halves): number | undefined {
  const { rss_stat } = kernel.layout(mmStruct);
  const before62 = kernel.layout(mmRssStat);
  const counter = kernel.layout(percpuCounter);
  let pages = 0;
  for (const index of RESIDENT_COUNTERS) {
    const offset =
      before62.sizeof > 0 ? rss_stat + before62.count + index * 8 : rss_stat + index * counter.sizeof + counter.count;
    const count = readNumber(kernel.space, mm, offset);
    if (count === undefined) return undefined;
    pages += Math.max(0, count);
  }
  return pages;
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
): Uint8Array | undefined {
  const start = readPointer(kernel.space, mm, startMember);
  const end = readPointer(kernel.space, mm, endMember);
  const space = userSpace(kernel, mm);
  if (start === undefined || end === undefined || space === undefined) return undefined;
  const length = numberOf(end.hi, end.lo) - numberOf(start.hi, start.lo);
  if (length === 0) return new Uint8Array(0);
  if (!(length > 0 && length <= MAX_ARGUMENTS)) return undefined;
  const bytes = new Uint8Array(length);
  return space.read(start.hi, start.lo, bytes) === length ? bytes : undefined;
}

/**
 * The command line as /proc/PID/cmdline gives it (fs/proc/base.c: get_mm_cmdline): arguments that each end with a zero,
 * or, where a process wrote over their end (setproctitle), one string that may go on into the environment.
 */
export function readArguments(kernel: Kernel, mm: Halves): Uint8Array | undefined {
  const { arg_start, arg_end, env_start, env_end } = kernel.layout(mmStruct);
  const span = readUserSpan(kernel, mm, arg_start, arg_end);
  if (span === undefined || span.length === 0 || span.at(-1) === 0) return span;
  const zero = span.indexOf(0);
  if (zero >= 0) return span.subarray(0, zero + 1);
  const argEnd = readNumber(kernel.space, mm, arg_end);
  const envStart = readNumber(kernel.space, mm, env_start);
  const beyond = argEnd === envStart ? readUserSpan(kernel, mm, env_start, env_end) : undefined;
  if (beyond === undefined) return span;
  const stop = beyond.indexOf(0);
  return Buffer.concat([span, beyond.subarray(0, stop < 0 ? beyond.length : stop + 1)]);
}

/** Halves of an address that comes from outside. */
export function halvesOf(address: bigint): Halves {
  return { hi: hiOf(address), lo: loOf(address) };
}
