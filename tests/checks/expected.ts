// What the tricks of the lab must be found as: each family of checks says it of its own, in FAMILY.expected.ts.
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { tricks } from "../../lab/index.ts";
import type { Row } from "../engine/support.ts";

/** A finding that there must be. */
export interface ExpectedFinding {
  readonly check: string;
  /** Of what it says, its place and its evidence, one after the other. */
  readonly what: RegExp;
}

export type ExpectedFindings = Readonly<Record<string, readonly ExpectedFinding[]>>;

/** By trick, those of all families. */
export async function expectedFindings(): Promise<ReadonlyMap<string, readonly ExpectedFinding[]>> {
  const files = readdirSync(import.meta.dirname).filter((name) => name.endsWith(".expected.ts"));
  const all = new Map<string, ExpectedFinding[]>(tricks.map(({ name }) => [name, []]));
  for (const file of files) {
    const { expected } = (await import(join(import.meta.dirname, file))) as { expected: ExpectedFindings };
    for (const [trick, findings] of Object.entries(expected)) {
      const known = all.get(trick);
      assert.ok(known, `${file}: there is no trick '${trick}'`);
      known.push(...findings);
    }
  }
  return all;
}

const textOf = (row: Row) => `${row.what} | ${row.place} | ${row.evidence}`;

/** Of the findings that there must be, those that are not among the rows, each in a line. */
export function missing(expected: readonly ExpectedFinding[], rows: readonly Row[]): string[] {
  return expected
    .filter(({ check, what }) => !rows.some((row) => row.check_name === check && what.test(textOf(row))))
    .map(({ check, what }) => {
      const others = rows.filter((row) => row.check_name === check).map((row) => `  ${textOf(row)}`);
      return [`${check} has nothing like ${what}`, ...others].join("\n");
    });
}

/** The rows above info, each in a line. */
export function alarms(rows: readonly Row[]): string[] {
  return rows
    .filter(({ severity }) => severity !== "info")
    .map((row) => `${row.severity} ${row.check_name}: ${textOf(row)}`);
}
