// Answers of SQL: rows of whatever columns a statement has.
import { fromBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  type SqlRow as ProtoRow,
  type QueryResponse,
  QueryResponseSchema,
  type SqlSummary,
  type SqlValue,
} from "../proto/gen/cloudvmi/v1/sql_pb.ts";
import { inconsistent } from "./cells.ts";
import { bytesToText } from "./text.ts";

/**
 * A value of SQL. Integers are numbers where these are exact, else bigints. Blobs, which texts of a guest are that are not
 * UTF-8, are texts that keep their bytes: see `bytesToText`. null is NULL, also for what could not be read.
 */
export type SqlCell = bigint | number | string | null;
/** By the columns' names: the second `pid` is `pid:1`. */
export type SqlRow = Record<string, SqlCell>;

export interface SqlQuery {
  /** Names or UUIDs; all by default. */
  readonly vms?: readonly string[] | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** The rows of one statement, which is sent when they are first looked for. They can be read once. */
export interface SqlReading extends AsyncIterable<SqlRow> {
  /** Every row at once. */
  all(): Promise<SqlRow[]>;
  /** The names of the columns, in order. */
  columns(): Promise<readonly string[]>;
  /** How the answer came about, and which VMs could not answer and why: settles when the last row has been read. */
  readonly summary: Promise<SqlSummary>;
}

/** A reading of encoded or decoded QueryResponses. */
export function sqlReading(open: () => AsyncIterable<Uint8Array | QueryResponse>): SqlReading {
  const { promise: summary, resolve, reject } = Promise.withResolvers<SqlSummary>();
  summary.catch(() => undefined);
  let messages: AsyncIterator<Uint8Array | QueryResponse> | undefined;
  let first: Promise<QueryResponse | undefined> | undefined;
  let read = false;

  async function next(): Promise<QueryResponse | undefined> {
    messages ??= open()[Symbol.asyncIterator]();
    const { value, done } = await messages.next();
    if (done) return undefined;
    if (!(value instanceof Uint8Array)) return value;
    try {
      return fromBinary(QueryResponseSchema, value);
    } catch (error) {
      throw inconsistent("it is not valid protobuf", error);
    }
  }

  function start(): Promise<QueryResponse | undefined> {
    first ??= next();
    return first;
  }

  async function* rows(): AsyncGenerator<SqlRow> {
    if (read) throw new ConnectError("these rows have been read already: ask again", Code.FailedPrecondition);
    read = true;
    try {
      let message = await start();
      const columns = message?.columns ?? [];
      let summarised = false;
      for (; message !== undefined; message = await next()) {
        if (summarised) throw inconsistent("more came after the summary");
        for (const row of message.rows) yield rowOf(row, columns);
        if (message.summary !== undefined) {
          summarised = true;
          resolve(message.summary);
        }
      }
      if (!summarised) throw inconsistent("it ended without its summary");
    } catch (error) {
      reject(error);
      throw error;
    } finally {
      reject(new ConnectError("the rows were not read to their end", Code.Canceled));
      await messages?.return?.();
    }
  }

  return {
    summary,
    async columns() {
      return (await start())?.columns ?? [];
    },
    async all() {
      const all: SqlRow[] = [];
      for await (const row of rows()) all.push(row);
      return all;
    },
    [Symbol.asyncIterator]: rows,
  };
}

function rowOf({ values }: ProtoRow, columns: readonly string[]): SqlRow {
  if (values.length !== columns.length) throw inconsistent("a row does not match the columns");
  // A column may have any name: fromEntries does not take __proto__ for what it is elsewhere.
  return Object.fromEntries(values.map(({ value }, at) => [columns[at]!, cellOf(value)]));
}

function cellOf(value: SqlValue["value"]): SqlCell {
  switch (value.case) {
    case undefined:
      return null;
    case "integer": {
      const number = Number(value.value);
      return Number.isSafeInteger(number) ? number : value.value;
    }
    case "blob":
      return bytesToText(value.value);
    case "real":
    case "text":
      return value.value;
  }
}
