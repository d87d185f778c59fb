import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import { consistently } from "./consistent.ts";
import type { Kernel } from "./kernel.ts";
import { isNull, readPointer } from "./read.ts";

/** What a pointer led to; or that it was null, could not be read, or was never the same twice. */
export type Followed<T> = { readonly value: T } | "null" | "unreadable" | "torn";

/**
 * Reads what a member of a task points to. A task that ends, or starts another program, gives up its memory,
 * directories and namespaces at once, and they may be another's a moment later: what was read counts only if the task
 * has the same pointer still, and so has everything that was followed from there. Otherwise it is read anew.
 *
 * Within a unit that looks at all of that again itself (see Trail.covered) it is left to the unit.
 *
 * @param alone what is read is so much that the unit around is not to look at it again, but at the member of `task` only
 */
export function follow<T>(
  kernel: Kernel,
  task: Halves,
  member: number,
  budget: Budget,
  read: (at: Halves) => T,
  alone = false,
): Followed<T> {
  const attempt = (): Followed<T> => {
    const at = readPointer(kernel.space, task, member);
    if (at === undefined) return "unreadable";
    return isNull(at) ? "null" : { value: read(at) };
  };
  if (kernel.trail.covered && !alone) return attempt();
  return consistently(kernel, budget, attempt, 1)?.value ?? "torn";
}
