import { CELL } from "../tables/columns.ts";
import type { TableAnswer } from "../tables/read-table.ts";

/** A cell as a test writes it: text is latin1, an absent one is its state's name. */
export type TestCell = number | bigint | string | { readonly absent: string };
export type TestRow = Record<string, TestCell>;

const stateNames = new Map<number, string>(Object.entries(CELL).map(([name, state]) => [state, name]));

export function rowsOf(answer: TableAnswer): TestRow[] {
  return Array.from({ length: answer.rows }, (_, row) =>
    Object.fromEntries(answer.columns.map(({ name }, i) => [name, cellOf(answer.data[i]!, row)])),
  );
}

function cellOf(column: TableAnswer["data"][number], row: number): TestCell {
  const state = column.states?.[row] ?? CELL.present;
  if (state !== CELL.present) return { absent: stateNames.get(state)! };
  if (column.kind === "integer") return column.wide?.get(row) ?? column.values[row]!;
  const start = row === 0 ? 0 : column.ends[row - 1]!;
  return Buffer.from(column.bytes.subarray(start, column.ends[row])).toString("latin1");
}
