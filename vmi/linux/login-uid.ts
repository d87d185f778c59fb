import type { Halves } from "../bytes/address.ts";
import { struct } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { readU32 } from "./read.ts";

/** With CONFIG_AUDIT. */
const task = struct("task_struct", { loginuid: "?loginuid" });
/** INVALID_UID: nobody has logged in. */
const UNSET = 0xffff_ffff;

/** Who logged in to the session that a task belongs to: /proc/PID/loginuid. Undefined for nobody. */
export function loginUid(kernel: Kernel, at: Halves): number | undefined {
  const { loginuid } = kernel.layout(task);
  const uid = loginuid < 0 ? undefined : readU32(kernel.space, at, loginuid);
  return uid === UNSET ? undefined : uid;
}
