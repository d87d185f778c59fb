import type { Budget } from "../budget.ts";
import type { Kernel } from "./kernel.ts";

const ATTEMPTS = 3;

/**
 * Reads something until every pointer that was followed on the way is the same afterwards.
 *
 * @param read must be without effect but its result: it is called again when the guest changed what it read
 * @param keep how many of the pointers that were followed first matter to a unit that this is within
 * @returns undefined when it was never the same
 */
export function consistently<T>(
  kernel: Kernel,
  budget: Budget,
  read: () => T,
  keep = 0,
): { readonly value: T } | undefined {
  const { trail } = kernel;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    budget.spend();
    if (attempt > 0) kernel.dropCaches();
    const from = trail.begin();
    let kept = 0;
    try {
      const value = read();
      if (trail.holds(from)) {
        kept = keep;
        return { value };
      }
    } finally {
      trail.end(from, kept);
    }
    trail.retried++;
  }
  return undefined;
}
