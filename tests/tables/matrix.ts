// Every table on every kernel: what `npm run matrix` prints, and of which the tests run a part.
import { type KernelChoice, kernelFlavours, kernelReleases, kernelSeries } from "../../lab/index.ts";
import { Subject } from "../engine/support.ts";
import { type Comparison, firstLines, NotApplicable, settle } from "./comparison.ts";

/** Every kernel that Debian's archive offers to the lab, by series and flavour. */
export const everyKernel: readonly KernelChoice[] = kernelSeries.flatMap((kernel) =>
  kernelFlavours.flatMap((flavour) => kernelReleases.map((release) => ({ kernel, flavour, release }))),
);

export const titleOf = ({ kernel, flavour, release }: KernelChoice) => `${kernel} ${flavour} ${release}`;

/** How a table and the guest's own truth compare on one kernel, in a line. */
export interface Outcome {
  readonly verdict: "equal" | "differs" | "not applicable";
  /** What was compared, what differs, why it does not apply. */
  readonly text: string;
  /** Why earlier attempts failed. */
  readonly failures: readonly string[];
}

/** Boots a kernel with the workload "full" and compares every table on it. Throws when it can't be booted or attached to. */
export async function compareOn(
  choice: KernelChoice,
  comparisons: readonly Comparison[],
): Promise<{ release: string; outcomes: Map<string, Outcome> }> {
  const { kernel, flavour, release } = choice;
  const name = `matrix-${kernel}-${flavour}-${release}`;
  await using subject = await Subject.boot({ ...choice, workload: "full", vcpus: 2, name });
  const guest = await subject.attach();
  const outcomes = new Map<string, Outcome>();
  for (const comparison of comparisons) {
    try {
      const { result, failures } = await settle(comparison, subject, guest);
      const applies = !(result instanceof NotApplicable);
      outcomes.set(
        comparison.table,
        applies
          ? { verdict: "equal", text: result, failures }
          : { verdict: "not applicable", text: result.why, failures },
      );
    } catch (error) {
      outcomes.set(comparison.table, { verdict: "differs", text: firstLines(error), failures: [] });
    }
  }
  return { release: guest.kernel.release, outcomes };
}
