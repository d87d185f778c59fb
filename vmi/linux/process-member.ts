import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import type { Kernel } from "./kernel.ts";
import { isNull, plus, readPointer, readU32, sameAddress } from "./read.ts";
import { PF_KTHREAD, PID_MAX_LIMIT, signalStruct, taskStruct } from "./task-struct.ts";

const NULL: Halves = { hi: 0, lo: 0 };

/**
 * What a process has at a pointer of its task_struct: `mm`, `files`, `fs`, `nsproxy`. The first thread of a process may end
 * while others run (pthread_exit() in main()): it stays on the task list for them, but has given all of these up
 * (kernel/exit.c: do_exit). What counts then is what the next thread has that still has one, as /proc/PID/task/TID shows it.
 *
 * @param task the thread group leader
 * @param member offset of the pointer
 * @returns null where no thread has one: a thread of the kernel, a process that has ended. Undefined when it can't be read
 */
export function processMember(kernel: Kernel, task: Halves, member: number, budget: Budget): Halves | undefined {
  const own = readPointer(kernel.space, task, member);
  return own !== undefined && isNull(own) ? ofNextThread(kernel, task, member, budget) : own;
}

/** Threads are in the order in which they were made: what is followed does not change when there are more. */
function ofNextThread(kernel: Kernel, task: Halves, member: number, budget: Budget): Halves | undefined {
  const { space } = kernel;
  const { flags, signal, thread_node } = kernel.layout(taskStruct);
  const traits = readU32(space, task, flags);
  if (traits === undefined) return undefined;
  if ((traits & PF_KTHREAD) !== 0) return NULL;
  const group = readPointer(space, task, signal);
  if (group === undefined || isNull(group)) return group;
  const head = plus(group, kernel.layout(signalStruct).thread_head);
  let node = readPointer(space, head);
  for (let threads = 0; node !== undefined && threads < PID_MAX_LIMIT; threads++) {
    if (sameAddress(node, head)) return NULL;
    budget.spend();
    const found = readPointer(space, node, member - thread_node);
    if (found === undefined || !isNull(found)) return found;
    node = readPointer(space, node);
  }
  return undefined;
}
