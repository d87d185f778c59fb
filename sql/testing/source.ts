// Tables held in memory, read as a guest's are: the columns asked for, of the rows that meet the constraints.
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { ColumnType, ReadTableResponseSchema } from "../../proto/gen/cloudvmi/v1/guest_pb.ts";
import { QueryResponseSchema, type SqlSummary } from "../../proto/gen/cloudvmi/v1/sql_pb.ts";
import { runSql, type SqlOptions, type SqlTable, type TableRead } from "../index.ts";

/** null: the cell is absent. */
export type TestCell = bigint | number | string | Uint8Array | null;
export type TestRows = readonly Readonly<Record<string, TestCell>>[];

export interface TestSource {
  readonly tables: readonly SqlTable[];
  /** VM → table → rows. */
  readonly vms: Readonly<Record<string, Readonly<Record<string, TestRows>>>>;
}

export interface TestAnswer {
  readonly columns: readonly string[];
  readonly rows: (bigint | number | string | Uint8Array | null)[][];
  readonly summary: SqlSummary;
  /** What was read of the source, without its signal. */
  readonly reads: Omit<TableRead, "signal">[];
}

/** Runs a statement over a source. */
export async function query(
  source: TestSource,
  statement: string,
  options: Partial<SqlOptions> = {},
): Promise<TestAnswer> {
  const vms = Object.keys(source.vms);
  const reads: Omit<TableRead, "signal">[] = [];
  let columns: readonly string[] = [];
  let summary: SqlSummary | undefined;
  const rows: TestAnswer["rows"] = [];
  const read = async function* (wanted: TableRead) {
    const { signal: _, ...rest } = wanted;
    reads.push(rest);
    yield* readTable(source, vms[wanted.vm]!, wanted);
  };
  for await (const bytes of runSql(statement, { tables: source.tables, vms, read, ...options })) {
    const message = fromBinary(QueryResponseSchema, bytes);
    if (message.columns.length > 0) columns = message.columns;
    for (const { values } of message.rows) rows.push(values.map(({ value }) => value.value ?? null));
    if (message.summary !== undefined) summary = message.summary;
  }
  return { columns, rows, summary: summary!, reads };
}

/** As the engine in the guest's inspector does. */
export function* readTable(
  source: TestSource,
  vm: string,
  read: Omit<TableRead, "vm" | "signal">,
): Generator<Uint8Array> {
  const table = source.tables.find(({ name }) => name === read.table)!;
  const matching = source.vms[vm]![read.table]!.filter((row) =>
    read.where.every(({ column, values }) => {
      const cell = row[column]!;
      return cell !== null && !(cell instanceof Uint8Array) && values.includes(String(cell));
    }),
  );
  const rows = read.limit === 0 ? matching : matching.slice(0, read.limit);
  const specs = read.columns.map((name) => table.columns.find((column) => column.name === name)!);
  const header = specs.map(({ name, type }) => ({
    name,
    type: ColumnType[type.toUpperCase() as "TEXT" | "INTEGER" | "REAL"],
  }));
  const message = (part: TestRows, first: boolean, last: boolean) =>
    toBinary(
      ReadTableResponseSchema,
      create(ReadTableResponseSchema, {
        header: first ? header : [],
        rows: part.length,
        columns:
          part.length === 0
            ? []
            : specs.map(({ name, type }) => {
                const cells = part.map((row) => row[name]!);
                const states = Uint8Array.from(cells.map((cell) => (cell === null ? 2 : 0)));
                if (type === "integer") return { integers: cells.map((cell) => (cell as bigint) ?? 0n), states };
                return type === "real"
                  ? { reals: cells.map((cell) => (cell as number) ?? 0), states }
                  : {
                      texts: cells.map((cell) =>
                        cell instanceof Uint8Array ? cell : Buffer.from((cell as string) ?? ""),
                      ),
                      states,
                    };
              }),
        ...(last ? { summary: { rows: BigInt(rows.length) } } : {}),
      }),
    );
  const half = Math.ceil(rows.length / 2);
  yield message(rows.slice(0, half), true, false);
  yield message(rows.slice(half), false, true);
}
