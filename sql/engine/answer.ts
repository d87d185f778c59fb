// Rows of the answer to protobuf, by hand: straight from SQLite's memory to the bytes of cloudvmi.v1.QueryResponse.
import { create, toBinary } from "@bufbuild/protobuf";
import { QueryResponseSchema, type SqlSummary } from "../../proto/gen/cloudvmi/v1/sql_pb.ts";
import { maxRow } from "./bounds.ts";
import { tooLong } from "./memory.ts";
import { type Sqlite, TYPE } from "./sqlite.ts";

/** Tags: field number << 3 | wire type. */
const ROW = (2 << 3) | 2;
const VALUE = (1 << 3) | 2;
const INTEGER = (1 << 3) | 0;
const REAL = (2 << 3) | 1;
const TEXT = (3 << 3) | 2;
const BLOB = (4 << 3) | 2;

/** A varint of 64 bits. */
const longest = 10;

/** The messages of one answer. */
export class Answer {
  readonly #sqlite: Sqlite;
  #bytes = new Uint8Array(1 << 16);
  #used = 0;
  /** Rows so far. */
  rows = 0;
  #pending = 0;

  constructor(sqlite: Sqlite, columns: readonly string[]) {
    this.#sqlite = sqlite;
    const header = toBinary(QueryResponseSchema, create(QueryResponseSchema, { columns: [...columns] }));
    this.#reserve(header.length);
    this.#bytes.set(header);
    this.#used = header.length;
  }

  /** Bytes that have not been taken. */
  get size(): number {
    return this.#used;
  }

  /** Rows that have not been taken. */
  get pending(): number {
    return this.#pending;
  }

  /** Adds the row that the statement stands at. */
  add(statement: number, columns: number): void {
    const { exports, wasm } = this.#sqlite;
    // The length of the row goes before it, and is known after it: room for the longest is left, and the row moved down.
    const head = 1 + 5;
    this.#reserve(head);
    const start = this.#used;
    let at = start + head;
    for (let column = 0; column < columns; column++) {
      const type = exports.sqlite3_column_type(statement, column);
      if (type === TYPE.text || type === TYPE.blob) {
        // As a blob also a text, which would be copied otherwise to get a zero at its end.
        const from = exports.sqlite3_column_blob(statement, column);
        const length = exports.sqlite3_column_bytes(statement, column);
        this.#used = at;
        // One text may be in many columns, and has been counted once.
        if (at - start + length > maxRow) throw tooLong();
        this.#reserve(length + 2 * longest);
        const bytes = this.#bytes;
        bytes[at++] = VALUE;
        at = writeVarint(bytes, at, 1 + varintSize(length) + length);
        bytes[at++] = type === TYPE.text ? TEXT : BLOB;
        at = writeVarint(bytes, at, length);
        if (length > 0) bytes.set(wasm.heap8u().subarray(from, from + length), at);
        at += length;
        continue;
      }
      this.#used = at;
      this.#reserve(2 * longest);
      const bytes = this.#bytes;
      bytes[at++] = VALUE;
      const body = at + 1;
      let end = body;
      if (type === TYPE.integer) {
        bytes[end++] = INTEGER;
        const number = exports.sqlite3_column_double(statement, column);
        end =
          Math.abs(number) < 2 ** 52
            ? writeVarint(bytes, end, number < 0 ? -number * 2 - 1 : number * 2)
            : writeZigzag(bytes, end, exports.sqlite3_column_int64(statement, column));
      } else if (type === TYPE.real) {
        bytes[end++] = REAL;
        new DataView(bytes.buffer).setFloat64(end, exports.sqlite3_column_double(statement, column), true);
        end += 8;
      }
      bytes[at] = end - body;
      at = end;
    }
    const body = start + head;
    const length = at - body;
    this.#bytes[start] = ROW;
    const to = writeVarint(this.#bytes, start + 1, length);
    this.#bytes.copyWithin(to, body, at);
    this.#used = to + length;
    this.rows++;
    this.#pending++;
  }

  /** A message of what has been added. */
  take(): Uint8Array<ArrayBuffer> {
    const bytes = this.#bytes.slice(0, this.#used);
    this.#used = this.#pending = 0;
    return bytes;
  }

  /** The last message. */
  end(summary: SqlSummary): Uint8Array<ArrayBuffer> {
    const last = toBinary(QueryResponseSchema, create(QueryResponseSchema, { summary }));
    this.#reserve(last.length);
    this.#bytes.set(last, this.#used);
    this.#used += last.length;
    return this.take();
  }

  #reserve(more: number): void {
    if (this.#used + more <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(this.#used + more, this.#bytes.length * 2));
    larger.set(this.#bytes.subarray(0, this.#used));
    this.#bytes = larger;
  }
}

function varintSize(value: number): number {
  return value < 1 << 7 ? 1 : value < 1 << 14 ? 2 : value < 1 << 21 ? 3 : value < 1 << 28 ? 4 : 5;
}

/** An unsigned varint below 2^53. */
function writeVarint(bytes: Uint8Array, start: number, value: number): number {
  let at = start;
  let rest = value;
  for (; rest >= 0x80000000; rest = Math.floor(rest / 128)) bytes[at++] = (rest % 128) | 0x80;
  for (; rest > 0x7f; rest >>>= 7) bytes[at++] = (rest & 0x7f) | 0x80;
  bytes[at++] = rest;
  return at;
}

function writeZigzag(bytes: Uint8Array, start: number, value: bigint): number {
  let at = start;
  let rest = BigInt.asUintN(64, (value << 1n) ^ (value >> 63n));
  for (; rest > 0x7fn; rest >>= 7n) bytes[at++] = Number(rest & 0x7fn) | 0x80;
  bytes[at++] = Number(rest);
  return at;
}
