import type { Budget } from "../budget.ts";
import type { Kernel } from "./kernel.ts";

const ATTEMPTS = 3;

/**
 * Reads something until every pointer that was followed on the way is the same afterwards.
 *
 * @param read must be without effect but its result: it is called again when the guest changed what it read
 * @param until where on the trail what matters to a unit that this is within ends; asked when it has been read. Nothing does
 *   without it
 * @returns undefined when it was never the same
 */
export function consistently<T>(
  kernel: Kernel,
  budget: Budget,
  read: () => T,
  until?: () => number,
): { readonly value: T } | undefined {
  const { trail } = kernel;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    budget.spend();
    if (attempt > 0) kernel.dropCaches();
    const from = trail.begin();
    let kept = from;
    try {
      const value = read();
      if (trail.holds(from)) {
        kept = until?.() ?? from;
        return { value };
      }
    } finally {
      trail.end(from, kept);
    }
    trail.retried++;
  }
  return undefined;
}
