import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import { struct } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { plus, readNumber, readPointer, readU32 } from "./read.ts";
import { walkThreads } from "./tasks.ts";

/** Nanoseconds from 4.11 (5613fda9a503). */
const task = struct("task_struct", {
  signal: "signal",
  utime: "utime",
  stime: "stime",
  sum_exec_runtime: "?se.sum_exec_runtime",
  ioac: "?ioac",
});
/** What threads that have ended leave to their group, and what was last told of it (include/linux/sched/signal.h). */
const signal = struct("signal_struct", {
  nr_threads: "nr_threads",
  utime: "utime",
  stime: "stime",
  sum_sched_runtime: "?sum_sched_runtime",
  prev_utime: "?prev_cputime.utime",
  prev_stime: "?prev_cputime.stime",
  ioac: "?ioac",
});
/** With CONFIG_TASK_IO_ACCOUNTING (include/linux/task_io_accounting.h) */
const ioAccounting = struct("?task_io_accounting", {
  read_bytes: "?read_bytes",
  write_bytes: "?write_bytes",
  cancelled_write_bytes: "?cancelled_write_bytes",
});

const ATTEMPTS = 3;
const NS_PER_MS = 1e6;

/** What a thread group has used. */
export interface Usage {
  /** Milliseconds. */
  readonly user: number;
  readonly system: number;
}

/** Bytes that a thread group caused to be read from and written to disks, without those that were dropped again. */
export interface DiskUsage {
  readonly read: number;
  readonly written: number;
}

/**
 * Processor time of a thread group, as /proc/PID/stat tells it: ticks only divide between user and kernel what the
 * scheduler measured (kernel/sched/cputime.c: cputime_adjust). Undefined where it can't be read.
 */
export function processorTime(kernel: Kernel, at: Halves, budget: Budget): Usage | undefined {
  const layout = kernel.layout(task);
  const group = kernel.layout(signal);
  const totals = sumOfThreads(
    kernel,
    at,
    [layout.utime, layout.stime, layout.sum_exec_runtime],
    [group.utime, group.stime, group.sum_sched_runtime],
    budget,
  );
  const told = totals && membersOf(kernel, totals.signal, [group.prev_utime, group.prev_stime]);
  if (totals === undefined || told === undefined) return undefined;
  const [ticksUser, ticksSystem, measured] = totals.sums as [number, number, number];
  const [user, system] = adjusted({ user: ticksUser, system: ticksSystem, measured }, told as [number, number]);
  return { user: Math.floor(user / NS_PER_MS), system: Math.floor(system / NS_PER_MS) };
}

/** Neither time goes back from what was told before. */
function adjusted(
  now: { user: number; system: number; measured: number },
  [toldUser, toldSystem]: readonly [number, number],
): [user: number, system: number] {
  const { measured } = now;
  if (toldUser + toldSystem >= measured) return [toldUser, toldSystem];
  let system = now.system;
  if (now.system !== 0) system = now.user === 0 ? measured : (now.system * measured) / (now.user + now.system);
  system = Math.max(system, toldSystem);
  const user = measured - system;
  return user < toldUser ? [toldUser, measured - toldUser] : [user, system];
}

/** As /proc/PID/io tells it. "unsupported" where the kernel does not count it, undefined where it can't be read. */
export function diskUsage(kernel: Kernel, at: Halves, budget: Budget): DiskUsage | "unsupported" | undefined {
  const { ioac } = kernel.layout(task);
  const group = kernel.layout(signal);
  const { read_bytes, write_bytes, cancelled_write_bytes } = kernel.layout(ioAccounting);
  const members = [read_bytes, write_bytes, cancelled_write_bytes];
  if (ioac < 0 || group.ioac < 0 || members.some((member) => member < 0)) return "unsupported";
  const totals = sumOfThreads(
    kernel,
    at,
    members.map((member) => ioac + member),
    members.map((member) => group.ioac + member),
    budget,
  );
  if (totals === undefined) return undefined;
  const [read, written, cancelled] = totals.sums as [number, number, number];
  return { read, written: written - cancelled };
}

/**
 * Adds members of all threads of a group to those that the group keeps of threads that have ended. A thread that ends
 * meanwhile would count twice or not at all: the group's number of threads must be the same before and after.
 */
function sumOfThreads(
  kernel: Kernel,
  at: Halves,
  ofThread: readonly number[],
  ofGroup: readonly number[],
  budget: Budget,
): { sums: number[]; signal: Halves } | undefined {
  const { nr_threads } = kernel.layout(signal);
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    budget.spend();
    const group = readPointer(kernel.space, at, kernel.layout(task).signal);
    const count = group && readU32(kernel.space, group, nr_threads);
    const sums = group && membersOf(kernel, group, ofGroup);
    if (group === undefined || sums === undefined) return undefined;
    const threads = count === 1 ? undefined : walkThreads(kernel, at, budget);
    const own = threads?.complete ? Array.from(threads.hi, (hi, i) => ({ hi, lo: threads.lo[i]! })) : [at];
    for (const thread of own) {
      const more = membersOf(kernel, thread, ofThread);
      if (more === undefined) return undefined;
      more.forEach((value, i) => {
        sums[i]! += value;
      });
    }
    if (readU32(kernel.space, group, nr_threads) === count && (threads?.complete ?? true))
      return { sums, signal: group };
    kernel.dropCaches();
  }
  return undefined;
}

/** Undefined when one can't be read; what a kernel lacks counts as 0. */
function membersOf(kernel: Kernel, at: Halves, offsets: readonly number[]): number[] | undefined {
  const values: number[] = [];
  for (const offset of offsets) {
    const value = offset < 0 ? 0 : readNumber(kernel.space, plus(at, offset));
    if (value === undefined) return undefined;
    values.push(value);
  }
  return values;
}
