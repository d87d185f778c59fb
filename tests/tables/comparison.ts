// A table against what the guest itself says of the same things: one file for each table, found by its place in this folder.
import { readdirSync } from "node:fs";
import { join } from "node:path";
import type { Guest } from "../../vmi/index.ts";
import type { Subject } from "../engine/support.ts";

export interface Comparison {
  readonly table: string;
  /**
   * Reads the table and the guest's own truth, of a guest with the workload "full", and compares. Throws where they
   * differ; it is asked again a few times then, as the guest goes on meanwhile.
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

const ATTEMPTS = 4;

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
export async function settle({ compare }: Comparison, subject: Subject, guest: Guest): Promise<string | NotApplicable> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await compare(subject, guest);
    } catch (error) {
      if (attempt === ATTEMPTS) throw error;
    }
  }
}
