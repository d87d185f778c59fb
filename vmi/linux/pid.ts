import type { Halves } from "../bytes/address.ts";
import { struct } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { isNull, plus, readPointer, readU32 } from "./read.ts";
import { taskStruct } from "./task-struct.ts";

/** include/linux/pid.h; a struct pid ends with a struct upid for each level of namespaces that it has a number in. */
const pidStruct = struct("pid", { level: "level", numbers: "numbers" });
const upid = struct("upid", { nr: "nr", ns: "ns" });
/** enum pid_type (include/linux/pid_types.h): index into signal_struct.pids. */
export const PIDTYPE_PGID = 2;
/** MAX_PID_NS_LEVEL */
const MAX_LEVEL = 32;

export interface ActivePidNamespace {
  readonly namespace: Halves;
  /** The task's id there. */
  readonly number: number;
  /** 0 for the initial one. */
  readonly level: number;
}

/** A task's own pid namespace (task_active_pid_ns), and its number there. Undefined for one that has been released. */
export function activePidNamespace(kernel: Kernel, at: Halves): ActivePidNamespace | undefined {
  const { space } = kernel;
  const layout = kernel.layout(pidStruct);
  const number = kernel.layout(upid);
  const { thread_pid } = kernel.layout(taskStruct);
  const pid = thread_pid < 0 ? undefined : readPointer(space, at, thread_pid);
  const level = pid === undefined || isNull(pid) ? undefined : readU32(space, pid, layout.level);
  if (pid === undefined || level === undefined || level > MAX_LEVEL) return undefined;
  const entry = plus(pid, layout.numbers + level * number.sizeof);
  const namespace = readPointer(space, entry, number.ns);
  const nr = readU32(space, entry, number.nr);
  return namespace === undefined || nr === undefined || isNull(namespace)
    ? undefined
    : { namespace, number: nr, level };
}

/** The number of a struct pid in the initial namespace. */
export function globalNumber(kernel: Kernel, pid: Halves): number | undefined {
  return readU32(kernel.space, pid, kernel.layout(pidStruct).numbers + kernel.layout(upid).nr);
}
