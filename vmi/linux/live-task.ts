import type { Halves } from "../bytes/address.ts";
import { struct } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { readNumber, readPointer, readU32, sameAddress } from "./read.ts";
import { PID_MAX_LIMIT, taskStruct } from "./task-struct.ts";

/** Where a task's stack is, and where it last stood on it. */
const taskStack = struct("task_struct", { stack: "stack", sp: "thread.sp" });
/** As large as a stack is. */
const threadUnion = struct("?thread_union", { stack: "stack" });

/** include/linux/sched.h */
const PF_EXITING = 0x4;
const TASK_DEAD = 0x80;
/** From copy_process() until wake_up_new_task(), when it is in every list. */
const TASK_NEW = 0x800;
/** include/uapi/linux/magic.h: at the end of every task's stack, as set_task_stack_end_magic() leaves it there. */
const STACK_END_MAGIC = 0x57ac6e9d;

/** A task that is fully created and not exiting, and what tells that it is still the same one. */
export interface LiveTask {
  readonly at: Halves;
  readonly pid: number;
  readonly tgid: number;
  /** Nanoseconds from boot. */
  readonly start: number;
  readonly leader: boolean;
  readonly parent: Halves;
  readonly stack: Halves;
}

/**
 * The task at an address, if it has been made completely and has not begun to end: the kernel has such a task in every one
 * of its lists. Undefined for all others, and for what only was or never is a task_struct.
 */
export function liveTask(kernel: Kernel, at: Halves): LiveTask | undefined {
  const { space } = kernel;
  const layout = kernel.layout(taskStruct);
  const state = readU32(space, at, layout.state);
  const exitState = readU32(space, at, layout.exit_state);
  const flags = readU32(space, at, layout.flags);
  if (state === undefined || exitState !== 0 || flags === undefined) return undefined;
  if ((state & (TASK_NEW | TASK_DEAD)) !== 0 || (flags & PF_EXITING) !== 0) return undefined;
  const pid = readU32(space, at, layout.pid);
  const tgid = readU32(space, at, layout.tgid);
  const start = readNumber(space, at, layout.start_boottime);
  if (pid === undefined || tgid === undefined || start === undefined) return undefined;
  if (pid > PID_MAX_LIMIT || tgid > PID_MAX_LIMIT) return undefined;
  const leader = readPointer(space, at, layout.group_leader);
  const parent = readPointer(space, at, layout.real_parent);
  const signal = readPointer(space, at, layout.signal);
  const leaderSignal = leader && readPointer(space, leader, layout.signal);
  if (!(leader && parent && signal && leaderSignal && sameAddress(signal, leaderSignal))) return undefined;
  const stack = readPointer(space, at, kernel.layout(taskStack).stack);
  if (stack === undefined || readNumber(space, stack) !== STACK_END_MAGIC) return undefined;
  return { at, pid, tgid, start, leader: sameAddress(leader, at), parent, stack };
}

/** True for two looks at one task between which it did not change its place among the others. */
export function isSameTask(a: LiveTask, b: LiveTask | undefined): boolean {
  return (
    b !== undefined &&
    a.pid === b.pid &&
    a.tgid === b.tgid &&
    a.start === b.start &&
    a.leader === b.leader &&
    sameAddress(a.parent, b.parent) &&
    sameAddress(a.stack, b.stack)
  );
}

/**
 * True when the task's saved stack pointer lies on its own stack. In what dup_task_struct() has just copied it lies on that
 * of the parent.
 */
export function standsOnOwnStack(kernel: Kernel, { at, stack }: LiveTask): boolean {
  const sp = readPointer(kernel.space, at, kernel.layout(taskStack).sp);
  if (sp === undefined) return false;
  const distance = (sp.hi - stack.hi) * 0x1_0000_0000 + ((sp.lo >>> 0) - (stack.lo >>> 0));
  return distance > 0 && distance < (kernel.layout(threadUnion).sizeof || THREAD_SIZE);
}

/** arch/x86/include/asm/page_64_types.h, without KASAN */
const THREAD_SIZE = 1 << 14;
