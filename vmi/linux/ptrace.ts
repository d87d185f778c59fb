import { struct } from "../symbols/specs.ts";

/** include/linux/sched.h: `parent` is the tracer where `ptrace` is not 0. */
export const tracedTask = struct("task_struct", { ptrace: "ptrace", parent: "parent" });

/** Names by bit of task_struct.ptrace: PT_PTRACED, then PTRACE_O_* from bit 3 on (PT_OPT_FLAG_SHIFT), and PT_SEIZED. */
const FLAGS: readonly (readonly [number, string])[] = [
  [0, "PTRACED"],
  [3, "TRACESYSGOOD"],
  [4, "TRACEFORK"],
  [5, "TRACEVFORK"],
  [6, "TRACECLONE"],
  [7, "TRACEEXEC"],
  [8, "TRACEVFORKDONE"],
  [9, "TRACEEXIT"],
  [10, "TRACESECCOMP"],
  [16, "SEIZED"],
  [23, "EXITKILL"],
  [24, "SUSPEND_SECCOMP"],
];

/** Separated by spaces (include/linux/ptrace.h, include/uapi/linux/ptrace.h). */
export function ptraceFlags(flags: number): string {
  return FLAGS.filter(([bit]) => (flags >>> bit) & 1)
    .map(([, name]) => name)
    .join(" ");
}
