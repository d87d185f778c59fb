import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import type { Kernel } from "./kernel.ts";
import { isNull, plus, readPointer, sameAddress } from "./read.ts";

/** What a pointer led to; or that it was null, could not be read, or was never the same twice. */
export type Followed<T> = { readonly value: T } | "null" | "unreadable" | "torn";

const ATTEMPTS = 3;

/**
 * Reads what a member of a task points to. A task that ends, or starts another program, gives up its memory,
 * directories and namespaces at once, and they may be another's a moment later: what was read counts only if the task
 * has the same pointer still. Otherwise it is read anew.
 */
export function follow<T>(
  kernel: Kernel,
  task: Halves,
  member: number,
  budget: Budget,
  read: (at: Halves) => T,
): Followed<T> {
  let at = readPointer(kernel.space, task, member);
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    budget.spend();
    if (at === undefined) return "unreadable";
    if (isNull(at)) return "null";
    if (attempt > 0) kernel.dropCaches();
    const value = read(at);
    const now = pointerNow(kernel, task, member);
    if (now !== undefined && sameAddress(now, at)) return { value };
    at = now;
  }
  return "torn";
}

/** A pointer as it is now, also where memory is copied and this request has an earlier copy. */
function pointerNow(kernel: Kernel, task: Halves, member: number): Halves | undefined {
  if (kernel.memory.direct) return readPointer(kernel.space, task, member);
  const { hi, lo } = plus(task, member);
  const bytes = kernel.space.reread(hi, lo, 8);
  if (bytes === undefined) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return { hi: view.getInt32(4, true), lo: view.getInt32(0, true) };
}
