import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import { consistently } from "./consistent.ts";
import type { Kernel } from "./kernel.ts";
import { processMember } from "./process-member.ts";
import { isNull } from "./read.ts";

/** What a pointer led to; or that it was null, could not be read, or was never the same twice. */
export type Followed<T> = { readonly value: T } | "null" | "unreadable" | "torn";

/**
 * Reads what a member of a process points to (see processMember). A task that ends, or starts another program, gives up its memory,
 * directories and namespaces at once, and they may be another's a moment later: what was read counts only if the task
 * has the same pointer still, and so has everything that was followed from there. Otherwise it is read anew.
 *
 * Within a unit that looks at all of that again itself (see Trail.covered) it is left to the unit.
 *
 * @param task the thread group leader
 * @param alone what is read is so much that the unit around is not to look at it again, but at the way to what is read only
 */
export function follow<T>(
  kernel: Kernel,
  task: Halves,
  member: number,
  budget: Budget,
  read: (at: Halves) => T,
  alone = false,
): Followed<T> {
  const { trail } = kernel;
  let found = 0;
  const attempt = (): Followed<T> => {
    const at = processMember(kernel, task, member, budget);
    found = trail.position;
    if (at === undefined) return "unreadable";
    return isNull(at) ? "null" : { value: read(at) };
  };
  if (trail.covered && !alone) return attempt();
  return consistently(kernel, budget, attempt, () => found)?.value ?? "torn";
}
