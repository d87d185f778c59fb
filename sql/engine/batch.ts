// Batches of columns as they come from a guest, decoded where they lie: texts stay in SQLite's memory and are never copied
// again nor turned into strings. Everything here is written by a guest or by what reads it: nothing is believed.
import { fromBinary } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  ColumnSpecSchema,
  ColumnType as ProtoType,
  type ReadSummary,
  ReadSummarySchema,
} from "../../proto/gen/cloudvmi/v1/guest_pb.ts";
import type { SqlColumn } from "./schema.ts";

export interface Batch {
  readonly rows: number;
  /** The number of its first row among all that a statement reads: SQLite tells rows apart by it. */
  readonly first: number;
  /** In the order of the columns asked for. */
  readonly columns: readonly Cells[];
}

/** The cells of one column. */
export interface Cells {
  /** Values of integers and reals; of texts, where they begin in SQLite's memory. */
  readonly values: Float64Array;
  readonly isReal: boolean;
  /** Lengths of texts. */
  readonly lengths: Uint32Array | undefined;
  /** Integers that no number holds exactly. */
  readonly large: ReadonlyMap<number, bigint> | undefined;
  /** One KIND a row; undefined when each has an ordinary value. */
  readonly kinds: Uint8Array | undefined;
}

export const KIND = { value: 0, absent: 1, bytes: 2, large: 3 } as const;

export interface Decoded {
  readonly batch: Omit<Batch, "first"> | undefined;
  readonly summary: ReadSummary | undefined;
}

const inconsistent = (what: string) => new ConnectError(`the answer is inconsistent: ${what}`, Code.DataLoss);

const protoTypes = { integer: ProtoType.INTEGER, real: ProtoType.REAL, text: ProtoType.TEXT } as const;
/** Field numbers of cloudvmi.v1.Column. */
const fields = { integer: 1, real: 2, text: 3, states: 4 } as const;
/** Rows of one message: more than any has, fewer than would not fit. */
const maxRows = 1 << 22;

/** Decodes one ReadTableResponse at `start` to `end` of `heap`. Throws DataLoss for what contradicts itself. */
export function decodeBatch(heap: Uint8Array, start: number, end: number, columns: readonly SqlColumn[]): Decoded {
  try {
    return decode(heap, start, end, columns);
  } catch (error) {
    if (error instanceof ConnectError) throw error;
    throw inconsistent("it is not valid protobuf");
  }
}

function decode(heap: Uint8Array, start: number, end: number, columns: readonly SqlColumn[]): Decoded {
  const reader = new BinaryReader(heap.subarray(start, end));
  const size = end - start;
  const places: number[] = [];
  let named = 0;
  let rows = 0;
  let summary: ReadSummary | undefined;
  while (reader.pos < size) {
    const [field, wireType] = reader.tag();
    const delimited = wireType === WireType.LengthDelimited;
    if (field === 1 && delimited) {
      const { name, type } = fromBinary(ColumnSpecSchema, reader.bytes());
      const asked = columns[named++];
      if (asked?.name !== name || protoTypes[asked.type] !== type)
        throw inconsistent("other columns than were asked for");
    } else if (field === 2 && wireType === WireType.Varint) rows = reader.uint32();
    else if (field === 3 && delimited) {
      const length = reader.uint32();
      places.push(start + reader.pos, start + reader.pos + length);
      reader.pos += length;
      if (reader.pos > size || places.length > 2 * columns.length) throw inconsistent("a column runs past its message");
    } else if (field === 4 && delimited) summary = fromBinary(ReadSummarySchema, reader.bytes());
    else reader.skip(wireType, field);
  }
  if (rows === 0) return { batch: undefined, summary };
  if (rows > maxRows || rows > size) throw inconsistent("more rows than it has bytes");
  if (places.length !== 2 * columns.length) throw inconsistent("the columns do not match the header");
  const cells = columns.map(({ type }, at) => decodeColumn(heap, places[2 * at]!, places[2 * at + 1]!, type, rows));
  return { batch: { rows, columns: cells }, summary };
}

function decodeColumn(heap: Uint8Array, start: number, end: number, type: SqlColumn["type"], rows: number): Cells {
  const reader = new BinaryReader(heap.subarray(start, end));
  const size = end - start;
  const into = new Decoder(rows, type);
  const wanted = fields[type];
  let states: Uint8Array | undefined;
  while (reader.pos < size) {
    const [field, wireType] = reader.tag();
    if (field === fields.states && wireType === WireType.LengthDelimited) states = reader.bytes();
    else if (field !== wanted) reader.skip(wireType, field);
    else if (wireType === WireType.LengthDelimited) {
      const length = reader.uint32();
      const from = reader.pos;
      reader.pos += length;
      if (reader.pos > size) throw inconsistent("a list runs past its column");
      if (type === "text") into.text(heap, start + from, length);
      else if (type === "integer") into.integers(heap, start + from, start + reader.pos);
      else into.reals(heap, start + from, start + reader.pos);
    } else if (type === "integer" && wireType === WireType.Varint) into.integer(BigInt(reader.sint64()));
    else if (type === "real" && wireType === WireType.Bit64) into.real(reader.double());
    else throw inconsistent("a column holds values of another type");
  }
  return into.finish(states);
}

class Decoder implements Cells {
  readonly values: Float64Array;
  readonly lengths: Uint32Array | undefined;
  large: Map<number, bigint> | undefined;
  kinds: Uint8Array | undefined;
  readonly isReal: boolean;
  readonly #rows: number;
  #row = 0;

  constructor(rows: number, type: SqlColumn["type"]) {
    this.#rows = rows;
    this.values = new Float64Array(rows);
    this.lengths = type === "text" ? new Uint32Array(rows) : undefined;
    this.isReal = type === "real";
  }

  #mark(row: number, kind: number): void {
    this.kinds ??= new Uint8Array(this.#rows);
    this.kinds[row] = kind;
  }

  #next(): number {
    if (this.#row >= this.#rows) throw inconsistent("a column has more cells than rows");
    return this.#row++;
  }

  text(heap: Uint8Array, from: number, length: number): void {
    const row = this.#next();
    this.values[row] = from;
    this.lengths![row] = length;
    const end = from + length;
    let at = from;
    while (at < end && heap[at]! < 0x80) at++;
    if (at < end && !isUtf8(heap, at, end)) this.#mark(row, KIND.bytes);
  }

  integer(value: bigint): void {
    const row = this.#next();
    const number = Number(value);
    this.values[row] = number;
    if (Number.isSafeInteger(number)) return;
    this.large ??= new Map();
    this.large.set(row, value);
    this.#mark(row, KIND.large);
  }

  real(value: number): void {
    this.values[this.#next()] = value;
  }

  reals(heap: Uint8Array, start: number, end: number): void {
    if ((end - start) % 8 !== 0) throw inconsistent("a list of reals is cut short");
    const view = new DataView(heap.buffer, heap.byteOffset, heap.byteLength);
    for (let at = start; at < end; at += 8) this.real(view.getFloat64(at, true));
  }

  /** Packed sint64. By hand, because a bigint for every cell costs ten times as much. */
  integers(heap: Uint8Array, start: number, end: number): void {
    const { values } = this;
    let at = start;
    while (at < end) {
      let byte = heap[at]!;
      if (byte < 0x80) {
        at++;
        values[this.#next()] = byte & 1 ? -(byte >>> 1) - 1 : byte >>> 1;
        continue;
      }
      let zigzag = 0;
      let scale = 1;
      let length = 0;
      do {
        if (at + length >= end || length > 9) throw inconsistent("a number is cut short");
        byte = heap[at + length++]!;
        zigzag += (byte & 0x7f) * scale;
        scale *= 128;
      } while (byte >= 0x80);
      // Up to 7 bytes hold 49 bits, which a number does too.
      if (length <= 7) {
        const half = Math.floor(zigzag / 2);
        values[this.#next()] = zigzag % 2 === 1 ? -half - 1 : half;
      } else {
        let all = 0n;
        for (let i = length - 1; i >= 0; i--) all = (all << 7n) | BigInt(heap[at + i]! & 0x7f);
        all = BigInt.asUintN(64, all);
        this.integer(all & 1n ? -(all >> 1n) - 1n : all >> 1n);
      }
      at += length;
    }
  }

  finish(states: Uint8Array | undefined): Cells {
    if (this.#row !== this.#rows) throw inconsistent(`a column does not hold ${this.#rows} rows`);
    if (states === undefined || states.length === 0) return this;
    if (states.length !== this.#rows) throw inconsistent(`the states of a column are not of ${this.#rows} rows`);
    for (let row = 0; row < states.length; row++) if (states[row] !== 0) this.#mark(row, KIND.absent);
    return this;
  }
}

/** Whether bytes are UTF-8 as SQLite may hold it: without surrogates, overlong forms and what is beyond U+10FFFF. */
function isUtf8(bytes: Uint8Array, start: number, end: number): boolean {
  let at = start;
  while (at < end) {
    const lead = bytes[at++]!;
    if (lead < 0x80) continue;
    const more =
      lead >= 0xc2 && lead < 0xe0 ? 1 : lead >= 0xe0 && lead < 0xf0 ? 2 : lead >= 0xf0 && lead < 0xf5 ? 3 : 0;
    if (more === 0 || at + more > end) return false;
    const second = bytes[at]!;
    const lowest = lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80;
    const highest = lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf;
    if (second < lowest || second > highest) return false;
    for (let i = 1; i < more; i++) if ((bytes[at + i]! & 0xc0) !== 0x80) return false;
    at += more;
  }
  return true;
}
