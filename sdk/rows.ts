// Answers of ReadTable to rows.
import { fromBinary } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { ConnectError } from "@connectrpc/connect";
import {
  type ColumnSpec,
  ColumnSpecSchema,
  type ReadSummary,
  ReadSummarySchema,
  type ReadTableResponse,
} from "../proto/gen/cloudvmi/v1/guest_pb.ts";
import { type Cell, cellsOfBytes, cellsOfMessage, inconsistent } from "./cells.ts";

/** One row of a table: its cells by the columns' names. */
export type Row = Record<string, Cell>;

/** One message of an answer. */
export interface Batch {
  readonly rows: Row[];
  /** In the last message only. */
  readonly summary: ReadSummary | undefined;
}

/** Decodes the messages of one answer, in order. Throws DataLoss for what contradicts itself. */
export interface RowDecoder {
  /** Known once the first message has been decoded. */
  readonly header: readonly ColumnSpec[] | undefined;
  bytes(encoded: Uint8Array): Batch;
  message(response: ReadTableResponse): Batch;
}

/** More columns than any table has: bounds the work that a lying server can cause. */
const MAX_COLUMNS = 1024;

export function createRowDecoder(): RowDecoder {
  let header: ColumnSpec[] | undefined;
  let names: string[] = [];
  /** Copies of one object have its shape at once, which adding a property by its name gives many times more slowly. */
  let blank: Row = {};

  function setHeader(specs: ColumnSpec[]): void {
    if (header !== undefined) {
      if (specs.length > 0) throw inconsistent("a second header");
      return;
    }
    names = specs.map((spec) => spec.name);
    const odd = names.find((name) => !/^[a-z][a-z0-9_]{0,63}$/.test(name));
    // Names become keys of objects, where __proto__ would do harm.
    if (odd !== undefined) throw inconsistent("a column's name is not one");
    if (new Set(names).size !== names.length) throw inconsistent("two columns have the same name");
    blank = Object.fromEntries(names.map((name) => [name, null]));
    header = specs;
  }

  function assemble(rows: number, columns: number, cellsOf: (column: number, spec: ColumnSpec) => Cell[]): Row[] {
    // A message of summary alone need not repeat the columns.
    if (rows === 0) return [];
    if (header === undefined || columns !== header.length) throw inconsistent("the columns do not match the header");
    if (columns === 0) throw inconsistent("rows without columns");
    const cells = header.map((spec, column) => cellsOf(column, spec));
    const result = Array.from({ length: rows }, (): Row => ({ ...blank }));
    for (let column = 0; column < columns; column++) {
      const name = names[column] as string;
      const cellsOfColumn = cells[column] as Cell[];
      for (let row = 0; row < rows; row++) (result[row] as Row)[name] = cellsOfColumn[row] as Cell;
    }
    return result;
  }

  function decode(encoded: Uint8Array): Batch {
    const reader = new BinaryReader(encoded);
    const specs: ColumnSpec[] = [];
    const starts: number[] = [];
    const ends: number[] = [];
    let rows = 0;
    let summary: ReadSummary | undefined;
    while (reader.pos < encoded.length) {
      const [field, wireType] = reader.tag();
      const delimited = wireType === WireType.LengthDelimited;
      if (field === 1 && delimited) specs.push(fromBinary(ColumnSpecSchema, reader.bytes()));
      else if (field === 2 && wireType === WireType.Varint) rows = reader.uint32();
      else if (field === 3 && delimited) {
        const length = reader.uint32();
        starts.push(reader.pos);
        reader.pos += length;
        if (reader.pos > encoded.length) throw inconsistent("a column runs past its message");
        ends.push(reader.pos);
      } else if (field === 4 && delimited) summary = fromBinary(ReadSummarySchema, reader.bytes());
      else reader.skip(wireType, field);
      if (specs.length > MAX_COLUMNS || starts.length > MAX_COLUMNS) throw inconsistent("too many columns");
    }
    setHeader(specs);
    const cellsOf = (column: number, spec: ColumnSpec): Cell[] =>
      cellsOfBytes(encoded, starts[column] as number, ends[column] as number, spec.type, rows);
    return { rows: assemble(rows, starts.length, cellsOf), summary };
  }

  return {
    get header() {
      return header;
    },
    bytes(encoded) {
      try {
        return decode(encoded);
      } catch (error) {
        // Protobuf's reader and TextDecoder throw errors of many kinds at malformed bytes.
        if (error instanceof ConnectError) throw error;
        throw inconsistent("it is not valid protobuf", error);
      }
    },
    message(response) {
      setHeader(response.header);
      const { rows, columns, summary } = response;
      const cellsOf = (at: number, spec: ColumnSpec): Cell[] => {
        const column = columns[at];
        if (column === undefined) throw inconsistent("a column is missing");
        return cellsOfMessage(column, spec.type, rows);
      };
      return { rows: assemble(rows, columns.length, cellsOf), summary };
    },
  };
}
