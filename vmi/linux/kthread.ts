import type { Halves } from "../bytes/address.ts";
import { struct } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { isNull, readCString, readPointer, readU32 } from "./read.ts";

/** From 5.17 (e32cf5dfbe22) a kernel thread's struct kthread hangs on worker_private; before, on set_child_tid. */
const task = struct("task_struct", { worker_private: ["?worker_private", "set_child_tid"] });
/** kernel/kthread.c; full_name from 5.17 (d6986ce24fc0). */
const kthread = struct("?kthread", {
  flags: "flags",
  cpu: "cpu",
  threadfn: "?threadfn",
  data: "?data",
  full_name: "?full_name",
});

/** KTHREAD_IS_PER_CPU, as a bit. */
const IS_PER_CPU = 1;
/** Names are made of a workqueue's name (WQ_NAME_LEN) and a few words. */
const MAX_NAME = 128;

export interface KernelThread {
  readonly function: Halves | undefined;
  readonly data: Halves | undefined;
  /** The CPU that it is bound to for life, as that CPU's own thread. */
  readonly cpu: number | undefined;
  /** Its name where that is longer than comm has room for. */
  readonly fullName: Uint8Array | undefined;
}

/** What a kernel thread was made for. Undefined where the kernel keeps no struct kthread for it, or it can't be read. */
export function kernelThread(kernel: Kernel, at: Halves): KernelThread | undefined {
  const { space } = kernel;
  const layout = kernel.layout(kthread);
  const made = layout.sizeof === 0 ? undefined : readPointer(space, at, kernel.layout(task).worker_private);
  if (made === undefined || isNull(made)) return undefined;
  const flags = readU32(space, made, layout.flags);
  const name = layout.full_name < 0 ? undefined : readPointer(space, made, layout.full_name);
  return {
    function: layout.threadfn < 0 ? undefined : readPointer(space, made, layout.threadfn),
    data: layout.data < 0 ? undefined : readPointer(space, made, layout.data),
    cpu: flags !== undefined && flags & IS_PER_CPU ? readU32(space, made, layout.cpu) : undefined,
    fullName: name === undefined || isNull(name) ? undefined : readCString(space, name, MAX_NAME),
  };
}
