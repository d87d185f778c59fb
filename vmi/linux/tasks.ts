import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import { AddressMap } from "../bytes/address-map.ts";
import { consistently } from "./consistent.ts";
import { type Kernel, kernelGone } from "./kernel.ts";
import { type Addresses, walkList } from "./list.ts";
import { isNull, pinU32, plus, readPointer, readU32 } from "./read.ts";
import { initTask, PID_MAX_LIMIT, signalStruct, taskStruct } from "./task-struct.ts";

/** On the last list that was walked; more are not prepared for. */
let lastCount = 0;
const MOST_EXPECTED = 1 << 14;

/**
 * The thread group leaders: init_task's list, without init_task itself (the idle task of the first vCPU).
 * Throws GuestError "kernel-changed" when there is none: a kernel without a process is remains of one.
 */
export function walkProcesses(kernel: Kernel, budget: Budget): Addresses {
  const { tasks } = kernel.layout(taskStruct);
  const begin = performance.now();
  const list = walkList(kernel, plus(kernel.place(initTask), tasks), tasks, PID_MAX_LIMIT, budget, lastCount);
  lastCount = Math.min(list.count, MOST_EXPECTED);
  if (list.count === 0) throw kernelGone(kernel);
  return performance.now() - begin < REUSE_MS ? list : withoutRepeats(list);
}

/** A task_struct is freed after an RCU grace period, which takes several milliseconds, and may be another task's then. */
const REUSE_MS = 1;

/** Each task once: one that ended behind a long walk, and whose memory became a later task's, was met again at the list's end. */
export function withoutRepeats(list: Addresses): Addresses {
  const seen = new AddressMap<true>();
  const hi: number[] = [];
  const lo: number[] = [];
  for (let i = 0; i < list.count; i++) {
    const at = { hi: list.hi[i]!, lo: list.lo[i]! };
    if (seen.get(at)) continue;
    seen.set(at, true);
    hi.push(at.hi);
    lo.push(at.lo);
  }
  return { ...list, hi, lo, count: hi.length };
}

/**
 * The thread group id of a task; undefined for one that has been released, whose memory is another's soon. Read within a
 * unit, it must be the same task at the unit's end.
 */
export function livePid(kernel: Kernel, task: Halves): number | undefined {
  const { tgid, thread_pid } = kernel.layout(taskStruct);
  const pid = thread_pid < 0 ? undefined : readPointer(kernel.space, task, thread_pid);
  return pid !== undefined && isNull(pid) ? undefined : pinU32(kernel.space, task, tgid);
}

export interface ReadProcesses<T> {
  readonly values: readonly T[];
  readonly retried: number;
  /** False when the list could not be followed to its end. */
  readonly complete: boolean;
  /** Processes that kept changing while they were read. */
  readonly torn: number;
}

/**
 * What is read of every process that stays the same meanwhile.
 *
 * @param read also gets the place on the task list; it must be without effect but its result: it is called again when the process changed
 */
export function readProcesses<T>(
  kernel: Kernel,
  budget: Budget,
  read: (task: Halves, pid: number, place: number) => T,
): ReadProcesses<T> {
  const { hi, lo, count, retried, complete } = walkProcesses(kernel, budget);
  const values: T[] = [];
  let torn = 0;
  for (let i = 0; i < count; i++) {
    const task = { hi: hi[i]!, lo: lo[i]! };
    const found = consistently(kernel, budget, () => {
      const pid = livePid(kernel, task);
      return pid === undefined ? undefined : { value: read(task, pid, i) };
    });
    if (found === undefined) torn++;
    else if (found.value !== undefined) values.push(found.value.value);
  }
  return { values, retried, complete, torn };
}

/** All threads of the thread group that a task belongs to (`signal->thread_head`, from 3.14: 0c740d0afc3b). */
export function walkThreads(kernel: Kernel, task: Halves, budget: Budget): Addresses | undefined {
  const { signal, thread_node } = kernel.layout(taskStruct);
  const { thread_head } = kernel.layout(signalStruct);
  const group = readPointer(kernel.space, task, signal);
  return group && walkList(kernel, plus(group, thread_head), thread_node, PID_MAX_LIMIT, budget);
}

/** The thread group leader with a pid; undefined when there is none. */
export function findProcess(kernel: Kernel, pid: number, budget: Budget): Halves | undefined {
  const task = kernel.layout(taskStruct);
  const list = walkProcesses(kernel, budget);
  for (let i = 0; i < list.count; i++) {
    const at = { hi: list.hi[i]!, lo: list.lo[i]! };
    if (readU32(kernel.space, at, task.tgid) === pid) return at;
  }
  return undefined;
}

/** Letters by the highest bit of `state | exit_state`, from none to TASK_IDLE's own (fs/proc/array.c: get_task_state). */
const STATE_LETTERS = "RSDTtXZPI";
/** include/linux/sched.h */
const TASK_UNINTERRUPTIBLE = 0x2;
const TASK_REPORT = 0x7f;
const TASK_REPORT_IDLE = TASK_REPORT + 1;
const TASK_NOLOAD = 0x400;
const TASK_IDLE = TASK_UNINTERRUPTIBLE | TASK_NOLOAD;
const TASK_RTLOCK_WAIT = 0x1000;
const TASK_FROZEN = 0x8000;

/** Code of the letter that /proc/PID/stat shows for `__state` and `exit_state` (include/linux/sched.h: __task_state_index). */
export function stateLetter(state: number, exitState: number): number {
  let shown = (state | exitState) & TASK_REPORT;
  if ((state & TASK_IDLE) === TASK_IDLE) shown = TASK_REPORT_IDLE;
  // f718faf3940e: a task that waits for an RT lock, or is frozen, shows as uninterruptible.
  if ((state & (TASK_RTLOCK_WAIT | TASK_FROZEN)) !== 0) shown = TASK_UNINTERRUPTIBLE;
  return STATE_LETTERS.charCodeAt(32 - Math.clz32(shown));
}
