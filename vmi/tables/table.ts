import type { Budget } from "../budget.ts";
import type { Kernel } from "../linux/kernel.ts";
import type { Unit } from "../linux/unit.ts";
import { type AnyColumn, IntegerColumn, TextColumn } from "./columns.ts";

export type ColumnKind = "integer" | "text";

export interface ColumnSpec<Kind extends ColumnKind = ColumnKind> {
  readonly kind: Kind;
  readonly description: string;
  /** A constraint on a key saves work in the guest's memory. */
  readonly key: boolean;
}

/** What reading a table costs: a fixed amount, a walk of kernel lists, or a scan of memory. */
export type CostClass = "constant" | "walk" | "scan";

export interface Table {
  readonly name: string;
  readonly description: string;
  readonly columns: Readonly<Record<string, ColumnSpec & { readonly name: string }>>;
  /** The action that policy must grant: "read" for what shows contents of memory rather than what the kernel knows of it. */
  readonly permission: "table" | "read";
  readonly cost: CostClass;
  /** Kernel structures and variables that it reads, with the versions that each branch serves: for the table reference. */
  readonly reads: readonly string[];
  /** Key columns of which one must be constrained: without, the table has too many rows to be read. Empty: none need be. */
  readonly required: readonly string[];
  /** Statements that work, for people; the tests run them. */
  readonly examples: readonly string[];
  /** The whole table is one unit (see TableContext.unit): for what is small and changes seldom. */
  readonly atOnce: boolean;
  /**
   * Writers of no column. Copies of it have one shape, by which code that is run for each cell finds a column at once: of an
   * object that grows as names come, it would have to look them up.
   */
  readonly noWriters: Readonly<Record<string, AnyColumn | undefined>>;
  /** Writes rows until there are none left or `row()` says that no more are wanted. */
  readonly generate: (context: TableContext, columns: Record<string, AnyColumn | undefined>) => void;
}

/** What a generator works with. */
export interface TableContext {
  readonly kernel: Kernel;
  readonly budget: Budget;
  /** Rows that are wanted at most, whichever come first; Infinity where it hangs on their cells. */
  readonly limit: number;
  /** The numbers that a key column must be one of; undefined when any will do. */
  keys(column: string): ReadonlySet<number> | undefined;
  /** The texts that a key column must be one of; undefined when any will do. */
  textKeys(column: string): ReadonlySet<string> | undefined;
  /** Ends a row. Returns false when no more rows are wanted. */
  row(): boolean;
  /**
   * Ends as many rows, which have been written column by column, and leaves out those that `without` says so of. Returns
   * false when no more are wanted.
   */
  rows(count: number, without?: (row: number) => boolean): boolean;
  /** Takes the cells of unfinished rows back. */
  discard(): void;
  /**
   * Reads rows that belong together, such as those of one process, until every pointer that was followed on the way is the
   * same afterwards: the rows of another reading are taken back. If that never comes to pass, rows stay that were each the
   * same before and after, and the answer is incomplete. Units are not within one another.
   *
   * @returns what `read` returned: whether more rows are wanted
   */
  readonly unit: Unit;
  /** Notes walks that had to begin anew. */
  retried(times: number): void;
  /** Notes that the answer lacks something, and why. */
  incomplete(note: string): void;
}

type Columns = Readonly<Record<string, ColumnSpec>>;
/** A writer for each column that was asked for. */
export type Writers<C extends Columns> = {
  readonly [Name in keyof C]: (C[Name] extends ColumnSpec<"integer"> ? IntegerColumn : TextColumn) | undefined;
};

/** Declares a table: everything that is known of it, in one value. */
export function defineTable<const C extends Columns>(spec: {
  name: string;
  description: string;
  columns: C;
  permission?: Table["permission"];
  cost: CostClass;
  reads: readonly string[];
  required?: readonly (keyof C & string)[];
  atOnce?: boolean;
  examples: readonly string[];
  generate: (context: TableContext, columns: Writers<C>) => void;
}): Table {
  return {
    permission: "table",
    required: [],
    atOnce: false,
    noWriters: Object.fromEntries(Object.keys(spec.columns).map((name) => [name, undefined])),
    ...spec,
    columns: Object.fromEntries(Object.entries(spec.columns).map(([name, column]) => [name, { name, ...column }])),
    generate: (context, columns) => spec.generate(context, columns as Writers<C>),
  };
}

export function integer(description: string, options: { key?: boolean } = {}): ColumnSpec<"integer"> {
  return { kind: "integer", description, key: options.key ?? false };
}

export function text(description: string, options: { key?: boolean } = {}): ColumnSpec<"text"> {
  return { kind: "text", description, key: options.key ?? false };
}

/** @param rows how many are expected */
export function newColumn(spec: ColumnSpec, rows: number): AnyColumn {
  return spec.kind === "integer" ? new IntegerColumn(rows) : new TextColumn(rows);
}
