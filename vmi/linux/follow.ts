import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import { consistently } from "./consistent.ts";
import type { Kernel } from "./kernel.ts";
import { isNull, readPointer } from "./read.ts";

/** What a pointer led to; or that it was null, could not be read, or was never the same twice. */
export type Followed<T> = { readonly value: T } | "null" | "unreadable" | "torn";

/** Every pointer that was followed. */
export const ALL = Number.POSITIVE_INFINITY;

/**
 * Reads what a member of a task points to. A task that ends, or starts another program, gives up its memory,
 * directories and namespaces at once, and they may be another's a moment later: what was read counts only if the task
 * has the same pointer still, and so has everything that was followed from there. Otherwise it is read anew.
 *
 * @param keep how many of the pointers that were followed matter to the unit around: of `task` only, or ALL
 */
export function follow<T>(
  kernel: Kernel,
  task: Halves,
  member: number,
  budget: Budget,
  read: (at: Halves) => T,
  keep = 1,
): Followed<T> {
  const attempt = (): Followed<T> => {
    const at = readPointer(kernel.space, task, member);
    if (at === undefined) return "unreadable";
    return isNull(at) ? "null" : { value: read(at) };
  };
  // The unit around looks at all of it again, and reads anew what it does not find unchanged.
  if (keep === ALL && kernel.trail.recording) return attempt();
  return consistently(kernel, budget, attempt, keep)?.value ?? "torn";
}
