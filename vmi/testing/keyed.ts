// Key columns: with a constraint on one, a table must answer as it would without, filtered, and do less work for it.
import assert from "node:assert/strict";
import { Budget } from "../budget.ts";
import { GuestError } from "../errors.ts";
import type { Guest } from "../guest.ts";
import { readTable, type TableQuery } from "../tables/read-table.ts";
import type { Table } from "../tables/table.ts";
import { rowsOf, type TestCell, type TestRow } from "./rows.ts";

/** A budget that tells what was spent. */
class Meter extends Budget {
  spent = 0;

  override spend(steps = 1): void {
    this.spent += steps;
    super.spend(steps);
  }
}

/** How much a table looked at: looks at memory by address, and steps that its budget counted. */
interface Reading {
  readonly rows: TestRow[];
  readonly effort: number;
}

const LOOKS = ["resolve", "borrow", "hold", "read", "reread", "translate"] as const;

function read(guest: Guest, table: Table, query: TableQuery): Reading {
  const { kernel } = guest;
  const budget = new Meter(120_000);
  let looks = 0;
  const spaces = [kernel.space, kernel.user];
  for (const space of spaces) {
    for (const name of LOOKS) {
      const original = space[name] as (...args: unknown[]) => unknown;
      Object.defineProperty(space, name, {
        configurable: true,
        value(...args: unknown[]) {
          looks++;
          return original.apply(space, args);
        },
      });
    }
  }
  try {
    kernel.dropCaches();
    const rows = rowsOf(readTable({ ...table, required: [] }, kernel, query, budget));
    return { rows, effort: looks + budget.spent };
  } finally {
    for (const space of spaces) for (const name of LOOKS) delete (space as unknown as Record<string, unknown>)[name];
  }
}

/** Values of one key that are tried. */
const VALUES = 10;
/** No guest has them. */
const NOBODY: Readonly<Record<string, string>> = { integer: "2000000001", text: "/no/such.thing" };

const valueOfCell = (cell: TestCell) => (typeof cell === "object" ? undefined : String(cell));
const textOfRow = (row: TestRow) =>
  JSON.stringify(row, (_name, value: unknown) => (typeof value === "bigint" ? `${value}n` : value));
const sorted = (rows: readonly TestRow[]) => rows.map(textOfRow).sort();

/**
 * Tries every key of a table with values out of its own answer, and one that is in none. The guest must stand still.
 *
 * @returns the keys that were tried; "unsupported" when this kernel has no such table
 */
export function checkKeys(guest: Guest, table: Table): string[] | "unsupported" {
  const keys = Object.entries(table.columns).filter(([, spec]) => spec.key);
  // Contents of files are long, and told apart by their places.
  const columns = Object.keys(table.columns).filter((name) => name !== "data");
  let whole: Reading;
  try {
    whole = read(guest, table, { columns });
  } catch (error) {
    if (error instanceof GuestError && error.kind === "unsupported-kernel") return "unsupported";
    throw error;
  }
  for (const [column, { kind }] of keys) {
    const all = [...new Set(whole.rows.flatMap((row) => valueOfCell(row[column]!) ?? []))];
    const chosen = all.filter((_, i) => i % Math.ceil(all.length / VALUES) === 0);
    const effortOf = (...values: string[]): number => {
      const { rows, effort } = read(guest, table, { columns, where: [{ column, values }] });
      const wanted = new Set<string | undefined>(values);
      const expected = whole.rows.filter((row) => wanted.has(valueOfCell(row[column]!)));
      assert.deepEqual(sorted(rows), sorted(expected), `${table.name} where ${column} is ${values.join(" or ")}`);
      return effort;
    };
    const efforts = [...chosen, NOBODY[kind]!].map((value) => effortOf(value));
    effortOf(...chosen, NOBODY[kind]!);
    const least = Math.min(...efforts);
    assert.ok(
      whole.rows.length === 0 || least < whole.effort,
      `${table.name}.${column} spares nothing: ${least}, and ${whole.effort} without it`,
    );
  }
  return keys.map(([name]) => `${table.name}.${name}`);
}
