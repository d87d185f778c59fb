import type { Budget } from "../budget.ts";
import { GuestError } from "../errors.ts";
import type { Kernel } from "../linux/kernel.ts";
import type { AnyColumn, ColumnData } from "./columns.ts";
import { RowWriter } from "./row-writer.ts";
import { type ColumnSpec, newColumn, type Table, type TableContext } from "./table.ts";

export interface TableQuery {
  /** In the order wanted; all of the table's when empty or absent. */
  readonly columns?: readonly string[];
  /** A row is wanted when each named column has one of the values. Integers are written in decimal. */
  readonly where?: readonly { readonly column: string; readonly values: readonly string[] }[];
  /** 0: no limit. */
  readonly limit?: number;
}

export interface TableAnswer {
  readonly columns: readonly (ColumnSpec & { readonly name: string })[];
  readonly rows: number;
  /** In the order of `columns`. */
  readonly data: readonly ColumnData[];
  /** Readings that were begun anew because the guest changed what was read. */
  readonly retried: number;
  readonly incomplete: boolean;
  readonly notes: readonly string[];
}

/** Rows of each table's last answer to a question for all of them; the next has about as many. */
const lastRows = new WeakMap<Table, number>();
/** More are not prepared for. */
const MOST_EXPECTED = 1 << 13;

/** Reads a table. Throws GuestError "unknown-column", "bad-request", "over-budget", "deadline" and what attaching can. */
export function readTable(table: Table, kernel: Kernel, query: TableQuery, budget: Budget): TableAnswer {
  const names = query.columns?.length ? query.columns : Object.keys(table.columns);
  const twice = names.find((name, at) => names.indexOf(name) !== at);
  if (twice !== undefined) throw new GuestError("bad-request", `column '${twice}' is named twice: name it once`);
  const where = (query.where ?? []).map(({ column, values }) => constraint(table, column, values));
  if (table.required.length > 0 && !where.some(({ column }) => table.required.includes(column))) {
    throw new GuestError("bad-request", `table ${table.name} needs a constraint on ${table.required.join(" or ")}`);
  }
  const writers = { ...table.noWriters };
  const whole = where.length === 0 && !query.limit;
  const expected = whole ? Math.min(lastRows.get(table) ?? 0, MOST_EXPECTED) : 0;
  const asked: AnyColumn[] = [];
  for (const name of [...names, ...where.map(({ column }) => column)]) {
    const spec = specOf(table, name);
    if (writers[name] !== undefined) continue;
    const column = newColumn(spec, expected);
    writers[name] = column;
    asked.push(column);
  }
  const filters = where.map(({ column, values }) => ({ column: writers[column] as AnyColumn, values }));
  const limit = query.limit || Number.POSITIVE_INFINITY;
  const rows = new RowWriter(kernel, budget, asked, filters, limit);
  const context: TableContext = {
    kernel,
    budget,
    limit: filters.length === 0 ? limit : Number.POSITIVE_INFINITY,
    keys: (column) => {
      const values = where.find((item) => item.column === column)?.values;
      return values && new Set([...values].map(Number));
    },
    textKeys: (column) => where.find((item) => item.column === column)?.values,
    row: () => rows.row(),
    rows: (count, without) => rows.rows(count, without),
    discard: () => rows.discard(),
    unit: (what, read) => rows.unit(what, read),
    retried: (times) => rows.retried(times),
    incomplete: (note) => rows.incomplete(note),
  };
  const retriedBefore = kernel.trail.retried;
  const generate = () => {
    table.generate(context, writers);
    return true;
  };
  if (table.atOnce) rows.unit(() => `what ${table.name} shows`, generate);
  else generate();
  const { rows: count, keep } = rows.finish();
  if (whole) lastRows.set(table, count);
  return {
    columns: names.map((name) => specOf(table, name)),
    rows: count,
    data: names.map((name) => (writers[name] as AnyColumn).finish(keep)),
    retried: rows.retries + kernel.trail.retried - retriedBefore,
    incomplete: rows.notes.length > 0,
    notes: rows.notes,
  };
}

function specOf(table: Table, name: string): ColumnSpec & { readonly name: string } {
  const spec = Object.hasOwn(table.columns, name) ? table.columns[name] : undefined;
  if (spec !== undefined) return spec;
  throw new GuestError(
    "unknown-column",
    `table ${table.name} has no column '${name}'; it has ${Object.keys(table.columns).join(", ")}`,
  );
}

function constraint(
  table: Table,
  column: string,
  values: readonly string[],
): { column: string; values: ReadonlySet<string> } {
  if (specOf(table, column).kind === "text") return { column, values: new Set(values) };
  for (const value of values) {
    if (!/^-?\d{1,19}$/.test(value)) {
      throw new GuestError(
        "bad-request",
        `column '${column}' of table ${table.name} is an integer; '${value}' is none`,
      );
    }
  }
  return { column, values: new Set(values.map((value) => String(BigInt(value)))) };
}
