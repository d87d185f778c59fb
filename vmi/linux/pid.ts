import type { Halves } from "../bytes/address.ts";
import { struct } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { isNull, plus, readPointer, readU32 } from "./read.ts";
import { taskStruct } from "./task-struct.ts";

/** include/linux/pid.h; a struct pid ends with a struct upid for each level of namespaces that it has a number in. */
const pidStruct = struct("pid", { level: "level", numbers: "numbers" });
const upid = struct("upid", { nr: "nr", ns: "ns" });
/** MAX_PID_NS_LEVEL */
const MAX_LEVEL = 32;

/** A task's own pid namespace (task_active_pid_ns), and its number there. Undefined for one that has been released. */
export function activePidNamespace(kernel: Kernel, at: Halves): { namespace: Halves; number: number } | undefined {
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
  return namespace === undefined || nr === undefined || isNull(namespace) ? undefined : { namespace, number: nr };
}
