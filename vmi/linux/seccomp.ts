import type { Halves } from "../bytes/address.ts";
import { struct } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { readU32 } from "./read.ts";

const task = struct("task_struct", { atomic_flags: "atomic_flags", mode: "?seccomp.mode" });

/** PFA_NO_NEW_PRIVS (include/linux/sched.h) */
const NO_NEW_PRIVS = 1;

/** What restricts a task whatever its ids: NoNewPrivs and Seccomp of /proc/PID/status. */
export function seccomp(kernel: Kernel, at: Halves): { mode: number | undefined; noNewPrivs: number | undefined } {
  const { atomic_flags, mode } = kernel.layout(task);
  const flags = readU32(kernel.space, at, atomic_flags);
  return {
    mode: mode < 0 ? undefined : readU32(kernel.space, at, mode),
    noNewPrivs: flags === undefined ? undefined : flags & NO_NEW_PRIVS,
  };
}
