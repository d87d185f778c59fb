// Columns of a batch to cells, from encoded bytes or from messages.
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { Code, ConnectError } from "@connectrpc/connect";
import { type Column, ColumnType } from "../proto/gen/cloudvmi/v1/guest_pb.ts";
import { bytesToText, textsOf } from "./text.ts";

/** A cell whose value could not be had. */
export interface Absent {
  /** `unreadable`: paged out or unmapped; `torn`: kept changing while it was read; `unsupported`: this kernel does not carry it. */
  readonly state: "unreadable" | "torn" | "unsupported";
}

/**
 * The value of one column in one row. Integers are numbers where these are exact, else bigints. null: the thing has no such
 * property. Text that is not UTF-8 keeps its bytes: see `bytesToText`.
 */
export type Cell = bigint | number | string | null | Absent;

const UNREADABLE: Absent = Object.freeze({ state: "unreadable" });
const TORN: Absent = Object.freeze({ state: "torn" });
const UNSUPPORTED: Absent = Object.freeze({ state: "unsupported" });

/** Field numbers of cloudvmi.v1.Column. */
const INTEGERS = 1;
const REALS = 2;
const TEXTS = 3;
const STATES = 4;

/** An answer that contradicts itself: whoever made it is broken or lies. */
export function inconsistent(text: string, cause?: unknown): ConnectError {
  return new ConnectError(`the answer is inconsistent: ${text}`, Code.DataLoss, undefined, undefined, cause);
}

/** Decodes an encoded Column of `rows` rows at `start` to `end` of `bytes`. */
export function cellsOfBytes(bytes: Uint8Array, start: number, end: number, type: ColumnType, rows: number): Cell[] {
  const wanted = fieldOf(type);
  const textOf = textsOf(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength), start, end);
  const reader = new BinaryReader(bytes);
  reader.pos = start;
  const cells: Cell[] = [];
  let states: Uint8Array | undefined;
  while (reader.pos < end) {
    const [field, wireType] = reader.tag();
    if (field === STATES && wireType === WireType.LengthDelimited) {
      states = reader.bytes();
    } else if (field !== wanted) {
      reader.skip(wireType, field);
    } else if (wanted === TEXTS && wireType === WireType.LengthDelimited) {
      const length = reader.uint32();
      const from = reader.pos;
      if (from + length > end) throw inconsistent("a text runs past its column");
      cells.push(textOf(from, from + length));
      reader.pos = from + length;
    } else if (wireType === WireType.LengthDelimited) {
      const length = reader.uint32();
      const to = reader.pos + length;
      if (to > end) throw inconsistent("a list runs past its column");
      if (wanted === INTEGERS) packedIntegers(bytes, reader.pos, to, cells);
      else packedReals(bytes, reader.pos, to, cells);
      reader.pos = to;
    } else if (wanted === INTEGERS && wireType === WireType.Varint) {
      cells.push(integerCell(BigInt(reader.sint64())));
    } else if (wanted === REALS && wireType === WireType.Bit64) {
      cells.push(reader.double());
    } else {
      throw inconsistent("a column holds values of another type");
    }
    if (cells.length > rows) break;
  }
  if (reader.pos > end) throw inconsistent("a column runs past its end");
  return withStates(cells, states ?? NO_STATES, rows);
}

/** Converts a Column that has been decoded already. */
export function cellsOfMessage(column: Column, type: ColumnType, rows: number): Cell[] {
  const field = fieldOf(type);
  const cells: Cell[] =
    field === INTEGERS
      ? column.integers.map(integerCell)
      : field === REALS
        ? column.reals.slice()
        : column.texts.map(bytesToText);
  return withStates(cells, column.states, rows);
}

const NO_STATES = new Uint8Array(0);

function fieldOf(type: ColumnType): number {
  switch (type) {
    case ColumnType.INTEGER:
      return INTEGERS;
    case ColumnType.REAL:
      return REALS;
    case ColumnType.TEXT:
      return TEXTS;
    default:
      throw inconsistent("a column has a type that this version does not know");
  }
}

/** Puts what is not a value in its place. */
function withStates(cells: Cell[], states: Uint8Array, rows: number): Cell[] {
  if (cells.length !== rows || (states.length !== 0 && states.length !== rows)) {
    throw inconsistent(`a column does not hold ${rows} rows`);
  }
  for (let row = 0; row < states.length; row++) {
    const state = states[row];
    if (state === 0) continue;
    // A state that only a newer server knows reads as unsupported.
    cells[row] = state === 1 ? null : state === 2 ? UNREADABLE : state === 3 ? TORN : UNSUPPORTED;
  }
  return cells;
}

function integerCell(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

/** Packed sint64. By hand, because a bigint for every cell costs ten times as much. */
function packedIntegers(bytes: Uint8Array, start: number, end: number, cells: Cell[]): void {
  let at = start;
  while (at < end) {
    let byte = bytes[at++] as number;
    if (byte < 0x80) {
      cells.push(byte & 1 ? -(byte >>> 1) - 1 : byte >>> 1);
      continue;
    }
    // 28 bits at a time: what fits a small integer.
    let low = byte & 0x7f;
    let middle = 0;
    let high = 0;
    let shift = 7;
    do {
      if (at >= end || shift > 63) throw inconsistent("a number is cut short");
      byte = bytes[at++] as number;
      if (shift < 28) low |= (byte & 0x7f) << shift;
      else if (shift < 56) middle |= (byte & 0x7f) << (shift - 28);
      else high |= (byte & 0x7f) << (shift - 56);
      shift += 7;
    } while (byte >= 0x80);
    if (high === 0 && middle < 0x1000000) {
      const zigzag = low + middle * 0x10000000;
      const half = Math.floor(zigzag / 2);
      cells.push(low & 1 ? -half - 1 : half);
    } else {
      const zigzag = BigInt.asUintN(64, BigInt(low) | (BigInt(middle) << 28n) | (BigInt(high) << 56n));
      cells.push(integerCell(zigzag & 1n ? -(zigzag >> 1n) - 1n : zigzag >> 1n));
    }
  }
}

function packedReals(bytes: Uint8Array, start: number, end: number, cells: Cell[]): void {
  if ((end - start) % 8 !== 0) throw inconsistent("a list of reals is cut short");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = start; at < end; at += 8) cells.push(view.getFloat64(at, true));
}
