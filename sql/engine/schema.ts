// What a statement can name: the tables with their columns, behind a column `vm` that every one has.

export type ColumnType = "integer" | "real" | "text";

export interface SqlColumn {
  readonly name: string;
  readonly type: ColumnType;
}

export interface SqlTable {
  readonly name: string;
  /** Those of the table itself: `vm` comes before them. */
  readonly columns: readonly SqlColumn[];
  /** Columns of which one must be constrained; none need be when empty. */
  readonly required: readonly string[];
}

/** The column of every table that says which VM a row is of. */
export const vmColumn = "vm";

/** What SQLite is told of a table's columns: the types decide how values are compared. */
export function declarationOf(table: SqlTable): string {
  const columns = [`${quoted(vmColumn)} TEXT`];
  for (const { name, type } of table.columns) columns.push(`${quoted(name)} ${type.toUpperCase()}`);
  return `CREATE TABLE ${quoted(table.name)} (${columns.join(", ")})`;
}

function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
