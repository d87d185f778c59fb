// Answers of SQL: rows of whatever columns a statement has.
import { fromBinary } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  type QueryResponse,
  type SqlSummary,
  SqlSummarySchema,
  type SqlValue,
} from "../proto/gen/cloudvmi/v1/sql_pb.ts";
import { inconsistent } from "./cells.ts";
import { gather } from "./reading.ts";
import { bytesToText, sliceToText } from "./text.ts";

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
  let first: Promise<Message | undefined> | undefined;
  let read = false;

  async function next(): Promise<Message | undefined> {
    messages ??= open()[Symbol.asyncIterator]();
    const { value, done } = await messages.next();
    if (done) return undefined;
    if (!(value instanceof Uint8Array)) {
      return { ...value, rows: value.rows.map(({ values }) => values.map((each) => cellOf(each.value))) };
    }
    try {
      return decode(value);
    } catch (error) {
      if (error instanceof ConnectError) throw error;
      throw inconsistent("it is not valid protobuf", error);
    }
  }

  function start(): Promise<Message | undefined> {
    first ??= next();
    return first;
  }

  async function* batches(): AsyncGenerator<SqlRow[]> {
    if (read) throw new ConnectError("these rows have been read already: ask again", Code.FailedPrecondition);
    read = true;
    try {
      let message = await start();
      const columns = message?.columns ?? [];
      let summarised = false;
      for (; message !== undefined; message = await next()) {
        if (summarised) throw inconsistent("more came after the summary");
        if (message.rows.length > 0) yield message.rows.map((row) => rowOf(row, columns));
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
    all: () => gather(batches()),
    async *[Symbol.asyncIterator]() {
      for await (const batch of batches()) yield* batch;
    },
  };
}

function rowOf(cells: readonly SqlCell[], columns: readonly string[]): SqlRow {
  if (cells.length !== columns.length) throw inconsistent("a row does not match the columns");
  const row: SqlRow = {};
  for (let at = 0; at < cells.length; at++) {
    const name = columns[at]!;
    // A column may have any name, and this one means something else to an assignment.
    if (name === "__proto__") Object.defineProperty(row, name, { value: cells[at], enumerable: true });
    else row[name] = cells[at]!;
  }
  return row;
}

interface Message {
  readonly columns: readonly string[];
  readonly rows: readonly (readonly SqlCell[])[];
  readonly summary?: SqlSummary | undefined;
}

/** A QueryResponse. Rows by hand: messages for each value would cost several times as much. */
function decode(bytes: Uint8Array): Message {
  const reader = new BinaryReader(bytes);
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const columns: string[] = [];
  const rows: SqlCell[][] = [];
  let summary: SqlSummary | undefined;
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    const delimited = wireType === WireType.LengthDelimited;
    if (field === 1 && delimited) columns.push(reader.string());
    else if (field === 2 && delimited) rows.push(decodeRow(reader, buffer));
    else if (field === 3 && delimited) summary = fromBinary(SqlSummarySchema, reader.bytes());
    else reader.skip(wireType, field);
  }
  return { columns, rows, summary };
}

function decodeRow(reader: BinaryReader, buffer: Buffer): SqlCell[] {
  const cells: SqlCell[] = [];
  const end = reader.uint32() + reader.pos;
  while (reader.pos < end) {
    const [field, wireType] = reader.tag();
    if (field !== 1 || wireType !== WireType.LengthDelimited) {
      reader.skip(wireType, field);
      continue;
    }
    const valueEnd = reader.uint32() + reader.pos;
    let cell: SqlCell = null;
    while (reader.pos < valueEnd) {
      const [kind, encoding] = reader.tag();
      if (kind === 1 && encoding === WireType.Varint) cell = integerOf(reader);
      else if (kind === 2 && encoding === WireType.Bit64) cell = reader.double();
      else if ((kind === 3 || kind === 4) && encoding === WireType.LengthDelimited) {
        const length = reader.uint32();
        if (reader.pos + length > valueEnd) throw inconsistent("a text runs past its value");
        cell = sliceToText(buffer, reader.pos, reader.pos + length);
        reader.pos += length;
      } else reader.skip(encoding, kind);
    }
    cells.push(cell);
  }
  if (reader.pos !== end) throw inconsistent("a row runs past its end");
  return cells;
}

function integerOf(reader: BinaryReader): number | bigint {
  const value = BigInt(reader.sint64());
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
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
