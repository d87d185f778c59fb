// What a statement can name: the tables with their columns, behind a column `vm` that every one has.
import { ColumnType as ProtoType, type TableSpec } from "../../proto/gen/cloudvmi/v1/guest_pb.ts";

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

const types: ReadonlyMap<ProtoType, ColumnType> = new Map([
  [ProtoType.INTEGER, "integer"],
  [ProtoType.REAL, "real"],
  [ProtoType.TEXT, "text"],
]);
const name = /^[a-z][a-z0-9_]{0,63}$/;

/** The tables of a catalogue. What has no usable name, or a type that only a newer agent knows, is left out. */
export function sqlTables(specs: readonly TableSpec[]): SqlTable[] {
  return specs
    .filter((spec) => name.test(spec.name))
    .map((spec) => ({
      name: spec.name,
      columns: spec.columns.flatMap((column) => {
        const type = types.get(column.type);
        const usable = type !== undefined && name.test(column.name) && column.name !== vmColumn;
        return usable ? [{ name: column.name, type }] : [];
      }),
      required: [...spec.required],
    }))
    .filter(({ columns }) => columns.length > 0);
}

/** What SQLite is told of a table's columns: the types decide how values are compared. */
export function declarationOf(table: SqlTable): string {
  const columns = [`${quoted(vmColumn)} TEXT`];
  for (const { name, type } of table.columns) columns.push(`${quoted(name)} ${type.toUpperCase()}`);
  return `CREATE TABLE ${quoted(table.name)} (${columns.join(", ")})`;
}

function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
