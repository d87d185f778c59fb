import type { Budget } from "../budget.ts";
import { GuestError } from "../errors.ts";
import type { Kernel } from "../linux/kernel.ts";
import { type AnyColumn, type ColumnData, tooLarge } from "./columns.ts";
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
  /** Walks that were begun anew because the guest changed what was walked. */
  readonly retried: number;
  readonly incomplete: boolean;
  readonly notes: readonly string[];
}

/** An answer larger than this is refused: it would not fit an inspector's memory. */
const MAX_ANSWER_BYTES = 64 << 20;
const MAX_ROWS = 4 << 20;
/** Rows between two looks at the answer's size. */
const STRIDE = 1024;

/** Reads a table. Throws GuestError "unknown-column", "bad-request", "over-budget", "deadline" and what attaching can. */
export function readTable(table: Table, kernel: Kernel, query: TableQuery, budget: Budget): TableAnswer {
  const names = query.columns?.length ? query.columns : Object.keys(table.columns);
  const twice = names.find((name, at) => names.indexOf(name) !== at);
  if (twice !== undefined) throw new GuestError("bad-request", `column '${twice}' is named twice: name it once`);
  const where = (query.where ?? []).map(({ column, values }) => constraint(table, column, values));
  if (table.required.length > 0 && !where.some(({ column }) => table.required.includes(column))) {
    throw new GuestError("bad-request", `table ${table.name} needs a constraint on ${table.required.join(" or ")}`);
  }
  const writers: Record<string, AnyColumn | undefined> = Object.create(null);
  for (const name of [...names, ...where.map(({ column }) => column)]) writers[name] ??= newColumn(specOf(table, name));
  const all = Object.values(writers) as AnyColumn[];
  const filters = where.map(({ column, values }) => ({ column: writers[column] as AnyColumn, values }));
  const limit = query.limit || Number.POSITIVE_INFINITY;
  let written = 0;
  /** Of the rows written, those that meet the constraints. */
  const kept: number[] | undefined = filters.length > 0 ? [] : undefined;
  let retried = 0;
  const notes: string[] = [];
  const context: TableContext = {
    kernel,
    budget,
    keys: (column) => {
      const values = where.find((item) => item.column === column)?.values;
      return values && new Set([...values].map(Number));
    },
    textKeys: (column) => where.find((item) => item.column === column)?.values,
    row: () => context.rows(1),
    rows: (count) => {
      for (let row = written; kept !== undefined && row < written + count; row++) {
        if (filters.every((filter) => filter.column.isOneOf(row, filter.values))) kept.push(row);
      }
      if (Math.trunc((written + count) / STRIDE) > Math.trunc(written / STRIDE)) checkSize(written, all);
      written += count;
      return (kept?.length ?? written) < limit;
    },
    discard: () => {
      for (const column of all) column.truncate(written);
    },
    retried: (times) => {
      retried += times;
    },
    incomplete: (note) => {
      if (!notes.includes(note)) notes.push(note);
    },
  };
  table.generate(context, writers);
  checkSize(written, all);
  const keep = written > limit || kept !== undefined ? (kept ?? firstRows(limit)).slice(0, limit) : undefined;
  return {
    columns: names.map((name) => ({ name, ...specOf(table, name) })),
    rows: keep?.length ?? written,
    data: names.map((name) => (writers[name] as AnyColumn).finish(keep)),
    retried,
    incomplete: notes.length > 0,
    notes,
  };
}

function firstRows(count: number): number[] {
  return Array.from({ length: count }, (_, row) => row);
}

function specOf(table: Table, name: string): ColumnSpec {
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
  return { column, values: new Set(values.map((value) => String(Number(value)))) };
}

function checkSize(rows: number, columns: readonly AnyColumn[]): void {
  let size = 0;
  for (const column of columns) size += column.size;
  if (rows > MAX_ROWS || size > MAX_ANSWER_BYTES) throw tooLarge();
}
