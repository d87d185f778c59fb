// Batches of columns as they come from a guest, decoded into SQLite's memory: texts lie there as they came and are never turned
// into strings. Everything here is written by a guest or by what reads it: nothing is believed.
import { fromBinary } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  ColumnSpecSchema,
  ColumnType as ProtoType,
  type ReadSummary,
  ReadSummarySchema,
} from "../../proto/gen/cloudvmi/v1/guest_pb.ts";
import { allocate } from "./memory.ts";
import type { SqlColumn } from "./schema.ts";
import type { Heap, Sqlite } from "./sqlite.ts";

export interface Batch {
  readonly rows: number;
  /** The number of its first row among all that a statement reads: SQLite tells rows apart by it. */
  readonly first: number;
  /** In the order of the columns asked for. */
  readonly columns: readonly Cells[];
  /** The one piece of SQLite's memory that it lies in, and how long that is. */
  readonly block: number;
  readonly bytes: number;
}

/** The cells of one column. */
export interface Cells {
  readonly type: SqlColumn["type"];
  /** Where eight bytes a row begin: a double, for KIND.large an int64; of texts, as u32s, where they begin and their length. */
  readonly at: number;
  /** Where one KIND a row begins; undefined when each has an ordinary value. */
  readonly kinds: number | undefined;
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

/** Decodes one ReadTableResponse. Throws DataLoss for what contradicts itself, ResourceExhausted when there is no room. */
export function decodeBatch(sqlite: Sqlite, bytes: Uint8Array, columns: readonly SqlColumn[]): Decoded {
  try {
    return decode(sqlite, bytes, columns);
  } catch (error) {
    if (error instanceof ConnectError) throw error;
    throw inconsistent("it is not valid protobuf");
  }
}

/** Where a column is in its message. */
interface Place {
  readonly start: number;
  readonly end: number;
}

function decode(sqlite: Sqlite, bytes: Uint8Array, columns: readonly SqlColumn[]): Decoded {
  const reader = new BinaryReader(bytes);
  const size = bytes.length;
  const places: Place[] = [];
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
      const start = reader.pos;
      reader.pos += length;
      if (reader.pos > size || places.push({ start, end: reader.pos }) > columns.length)
        throw inconsistent("a column runs past its message");
    } else if (field === 4 && delimited) summary = fromBinary(ReadSummarySchema, reader.bytes());
    else reader.skip(wireType, field);
  }
  if (rows === 0) return { batch: undefined, summary };
  if (places.length !== columns.length) throw inconsistent("the columns do not match the header");
  // A cell has a byte at least, so that no message takes more than ten times its size.
  if (rows > maxRows || places.some(({ start, end }) => end - start < rows))
    throw inconsistent("more rows than it has bytes");
  return { batch: decodeColumns(sqlite, bytes, columns, places, rows), summary };
}

function decodeColumns(
  sqlite: Sqlite,
  bytes: Uint8Array,
  columns: readonly SqlColumn[],
  places: readonly Place[],
  rows: number,
): Omit<Batch, "first"> {
  const textBytes = (at: number) => (columns[at]!.type === "text" ? places[at]!.end - places[at]!.start : 0);
  // First the values of each column, which must be aligned, then their kinds, then the texts.
  let free = 9 * rows * columns.length;
  const size = places.reduce((sum, _, at) => sum + textBytes(at), free);
  const block = allocate(sqlite, size);
  const heap = sqlite.heap();
  try {
    const cells = columns.map(({ type }, at) => {
      const { start, end } = places[at]!;
      const texts = block + free;
      if (type === "text") heap.u8.set(bytes.subarray(start, end), texts);
      free += textBytes(at);
      const values = block + 8 * rows * at;
      const kinds = block + 8 * rows * columns.length + rows * at;
      const into = new Decoder(heap, { type, rows, values, kinds, texts });
      return decodeColumn(bytes.subarray(start, end), into);
    });
    return { rows, columns: cells, block, bytes: size };
  } catch (error) {
    sqlite.exports.sqlite3_free(block);
    throw error;
  }
}

function decodeColumn(bytes: Uint8Array, into: Decoder): Cells {
  const reader = new BinaryReader(bytes);
  const { type } = into;
  const wanted = fields[type];
  let states: Uint8Array | undefined;
  while (reader.pos < bytes.length) {
    const [field, wireType] = reader.tag();
    if (field === fields.states && wireType === WireType.LengthDelimited) states = reader.bytes();
    else if (field !== wanted) reader.skip(wireType, field);
    else if (wireType === WireType.LengthDelimited) {
      const length = reader.uint32();
      const from = reader.pos;
      reader.pos += length;
      if (reader.pos > bytes.length) throw inconsistent("a list runs past its column");
      if (type === "text") into.text(from, length);
      else if (type === "integer") into.integers(bytes, from, reader.pos);
      else into.reals(bytes, from, reader.pos);
    } else if (type === "integer" && wireType === WireType.Varint) into.integer(BigInt(reader.sint64()));
    else if (type === "real" && wireType === WireType.Bit64) into.real(reader.double());
    else throw inconsistent("a column holds values of another type");
  }
  return into.finish(states);
}

/** What a decoder fills. */
interface Room {
  readonly type: SqlColumn["type"];
  readonly rows: number;
  /** Addresses: of the values, the kinds, and the message's bytes of the column, when it has texts. */
  readonly values: number;
  readonly kinds: number;
  readonly texts: number;
}

class Decoder {
  readonly type: SqlColumn["type"];
  readonly #room: Room;
  readonly #heap: Heap;
  /** The index of the first value. */
  readonly #first: number;
  readonly #rows: number;
  #row = 0;
  #marked = false;

  constructor(heap: Heap, room: Room) {
    this.type = room.type;
    this.#heap = heap;
    this.#room = room;
    this.#rows = room.rows;
    this.#first = room.values / 8;
    heap.u8.fill(KIND.value, room.kinds, room.kinds + room.rows);
  }

  #mark(row: number, kind: number): void {
    this.#marked = true;
    this.#heap.u8[this.#room.kinds + row] = kind;
  }

  #next(): number {
    if (this.#row >= this.#rows) throw inconsistent("a column has more cells than rows");
    return this.#row++;
  }

  /** @param from in the bytes of the column */
  text(from: number, length: number): void {
    const row = this.#next();
    const { u8, u32 } = this.#heap;
    let at = this.#room.texts + from;
    const end = at + length;
    u32[2 * (this.#first + row)] = at;
    u32[2 * (this.#first + row) + 1] = length;
    while (at < end && u8[at]! < 0x80) at++;
    if (at < end && !isUtf8(u8, at, end)) this.#mark(row, KIND.bytes);
  }

  integer(value: bigint): void {
    const row = this.#next();
    const number = Number(value);
    if (Number.isSafeInteger(number)) this.#heap.f64[this.#first + row] = number;
    else {
      this.#heap.i64[this.#first + row] = value;
      this.#mark(row, KIND.large);
    }
  }

  real(value: number): void {
    this.#heap.f64[this.#first + this.#next()] = value;
  }

  reals(bytes: Uint8Array, start: number, end: number): void {
    if ((end - start) % 8 !== 0) throw inconsistent("a list of reals is cut short");
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let at = start; at < end; at += 8) this.real(view.getFloat64(at, true));
  }

  /** Packed sint64. By hand, because a bigint for every cell costs ten times as much. */
  integers(bytes: Uint8Array, start: number, end: number): void {
    const { f64 } = this.#heap;
    const first = this.#first;
    let at = start;
    while (at < end) {
      let byte = bytes[at]!;
      if (byte < 0x80) {
        at++;
        f64[first + this.#next()] = byte & 1 ? -(byte >>> 1) - 1 : byte >>> 1;
        continue;
      }
      let zigzag = 0;
      let scale = 1;
      let length = 0;
      do {
        if (at + length >= end || length > 9) throw inconsistent("a number is cut short");
        byte = bytes[at + length++]!;
        zigzag += (byte & 0x7f) * scale;
        scale *= 128;
      } while (byte >= 0x80);
      // Up to 7 bytes hold 49 bits, which a number does too.
      if (length <= 7) {
        const half = Math.floor(zigzag / 2);
        f64[first + this.#next()] = zigzag % 2 === 1 ? -half - 1 : half;
      } else {
        let all = 0n;
        for (let i = length - 1; i >= 0; i--) all = (all << 7n) | BigInt(bytes[at + i]! & 0x7f);
        all = BigInt.asUintN(64, all);
        this.integer(all & 1n ? -(all >> 1n) - 1n : all >> 1n);
      }
      at += length;
    }
  }

  finish(states: Uint8Array | undefined): Cells {
    if (this.#row !== this.#rows) throw inconsistent(`a column does not hold ${this.#rows} rows`);
    if (states !== undefined && states.length > 0) {
      if (states.length !== this.#rows) throw inconsistent(`the states of a column are not of ${this.#rows} rows`);
      for (let row = 0; row < states.length; row++) if (states[row] !== 0) this.#mark(row, KIND.absent);
    }
    const { type, values, kinds } = this.#room;
    return { type, at: values, kinds: this.#marked ? kinds : undefined };
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
