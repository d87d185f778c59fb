// A table against what the guest itself says of the same things: one file for each table, found by its place in this folder.
import { readdirSync } from "node:fs";
import { join } from "node:path";
import type { Guest } from "../../vmi/index.ts";
import type { Subject } from "../engine/support.ts";

export interface Comparison {
  readonly table: string;
  /**
   * Reads the table and the guest's own truth, of a guest with the workload "full", and compares. Throws where they
   * differ. What moved while the table was read is told by the truth before and after it; a comparison that can't tell
   * is asked again, which is reported, and few may need it.
   *
   * @returns what was compared, such as "241 rows"; or NotApplicable where this kernel has no such thing
   */
  readonly compare: (subject: Subject, guest: Guest) => Promise<string | NotApplicable>;
}

/** This kernel has nothing of the kind, and why. */
export class NotApplicable {
  readonly why: string;
  constructor(why: string) {
    this.why = why;
  }
}

const ATTEMPTS = 3;
/** Of all comparisons so many may need more than one attempt. */
export const RETRIED_SHARE = 0.08;

/** What came of a comparison, and how often it was tried for that. */
export interface Settled {
  readonly result: string | NotApplicable;
  readonly attempts: number;
  /** Why the earlier attempts failed. */
  readonly failures: readonly string[];
}

/** Every comparison of this folder: of `NAME.table.ts` the value `comparison`. */
export async function comparisons(): Promise<Comparison[]> {
  const files = readdirSync(import.meta.dirname)
    .filter((name) => name.endsWith(".table.ts"))
    .sort();
  return Promise.all(
    files.map(async (name) => {
      const module = (await import(join(import.meta.dirname, name))) as { comparison: Comparison };
      return module.comparison;
    }),
  );
}

/** Compares until it holds, or has failed as often as a real difference does. Throws the last failure. */
export async function settle({ compare }: Comparison, subject: Subject, guest: Guest): Promise<Settled> {
  const failures: string[] = [];
  for (let attempts = 1; ; attempts++) {
    try {
      return { result: await compare(subject, guest), attempts, failures };
    } catch (error) {
      if (attempts === ATTEMPTS) throw error;
      failures.push(firstLines(error));
    }
  }
}

/** The message of an error in one line. */
export function firstLines(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  return lines.slice(0, 12).join(" ⏎ ").slice(0, 600);
}
