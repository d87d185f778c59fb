/**
 * Rows to protobuf, by hand: straight from the engine's columns to the bytes of cloudvmi.v1.ReadTableResponse, without an
 * object a cell. Done once here; agent and control pass the bytes on.
 */
import type { ColumnData } from "../../vmi/index.ts";

type IntegerData = Extract<ColumnData, { kind: "integer" }>;

/** Largest batch aimed at, in bytes; a single row may be larger. */
const batchBytes = 1 << 20;

/** Tags: field number << 3 | wire type. */
const ROWS = (2 << 3) | 0;
const COLUMNS = (3 << 3) | 2;
const INTEGERS = (1 << 3) | 2;
const TEXTS = (3 << 3) | 2;
const STATES = (4 << 3) | 2;

/** A tag and the longest length that a 32-bit varint holds. */
const maxHead = 6;
/** The longest zigzag varint of a 54-bit value, and of a 64-bit one. */
const maxIntegerBytes = 8;
const maxWideBytes = 10;

/**
 * The messages of one answer.
 * @param header an encoded ReadTableResponse with the header alone: leads the first message.
 * @param summary an encoded ReadTableResponse with the summary alone: closes the last message.
 */
export function* encodeRows(
  columns: readonly ColumnData[],
  rows: number,
  header: Uint8Array,
  summary: Uint8Array,
): Generator<Uint8Array, void, undefined> {
  for (let from = 0; ; ) {
    const to = batchEnd(columns, from, rows);
    const first = from === 0;
    const last = to >= rows;
    const bound = sizeBound(columns, from, to);
    const bytes = Buffer.allocUnsafe(bound + 2 * maxHead + (first ? header.length : 0) + (last ? summary.length : 0));
    let at = 0;
    if (first) {
      bytes.set(header, 0);
      at = header.length;
    }
    if (to > from) {
      bytes[at++] = ROWS;
      at = writeVarint(bytes, at, to - from);
      for (const column of columns) at = writeColumn(bytes, at, column, from, to);
    }
    if (last) {
      bytes.set(summary, at);
      yield bytes.subarray(0, at + summary.length);
      return;
    }
    yield bytes.subarray(0, at);
    from = to;
  }
}

/** The row before which a batch from `from` on ends. */
function batchEnd(columns: readonly ColumnData[], from: number, rows: number): number {
  if (sizeBound(columns, from, rows) <= batchBytes) return rows;
  let size = 0;
  let row = from;
  for (; row < rows; row++) {
    for (const column of columns) size += rowBound(column, row);
    if (size > batchBytes && row > from) break;
  }
  return row;
}

function rowBound(column: ColumnData, row: number): number {
  if (column.kind === "integer") return maxBytesOf(column) + 1;
  return column.ends[row]! - (row === 0 ? 0 : column.ends[row - 1]!) + maxHead + 1;
}

const maxBytesOf = ({ wide }: IntegerData): number => (wide === undefined ? maxIntegerBytes : maxWideBytes);

function sizeBound(columns: readonly ColumnData[], from: number, to: number): number {
  let size = 0;
  for (const column of columns) {
    size += 3 * maxHead + (to - from);
    if (column.kind === "integer") size += (to - from) * maxBytesOf(column);
    else if (to > from)
      size += column.ends[to - 1]! - (from === 0 ? 0 : column.ends[from - 1]!) + (to - from) * maxHead;
  }
  return size;
}

function writeColumn(bytes: Uint8Array, at: number, column: ColumnData, from: number, to: number): number {
  const states = column.states?.subarray(from, to);
  const statesSize = states ? 1 + varintSize(states.length) + states.length : 0;
  const end =
    column.kind === "integer"
      ? writeIntegers(bytes, at, column, from, to, statesSize)
      : writeTexts(bytes, at, column, from, to, statesSize);
  if (!states) return end;
  bytes[end] = STATES;
  const begin = writeVarint(bytes, end + 1, states.length);
  bytes.set(states, begin);
  return begin + states.length;
}

/** The values go behind the longest possible heads and move up once their size, and so the heads', is known. */
function writeIntegers(
  bytes: Uint8Array,
  at: number,
  { values, wide }: IntegerData,
  from: number,
  to: number,
  statesSize: number,
): number {
  const body = at + 2 * maxHead;
  let end = body;
  for (let row = from; row < to; row++) {
    const value = values[row]!;
    end =
      value >= 0 && value < 2 ** 52
        ? writeVarint(bytes, end, value * 2)
        : writeZigzag(bytes, end, wide?.get(row) ?? value);
  }
  const size = end - body;
  let begin = writeHead(bytes, at, COLUMNS, 1 + varintSize(size) + size + statesSize);
  begin = writeHead(bytes, begin, INTEGERS, size);
  bytes.copyWithin(begin, body, end);
  return begin + size;
}

function writeTexts(
  bytes: Uint8Array,
  at: number,
  column: Extract<ColumnData, { kind: "text" }>,
  from: number,
  to: number,
  statesSize: number,
): number {
  const { ends } = column;
  const first = from === 0 ? 0 : ends[from - 1]!;
  let size = ends[to - 1]! - first;
  for (let row = from, begin = first; row < to; row++) {
    size += 1 + varintSize(ends[row]! - begin);
    begin = ends[row]!;
  }
  let end = writeHead(bytes, at, COLUMNS, size + statesSize);
  for (let row = from, begin = first; row < to; row++) {
    const length = ends[row]! - begin;
    end = writeHead(bytes, end, TEXTS, length);
    // Most texts are short: a call to set() costs more than the loop.
    if (length <= 32) for (let i = 0; i < length; i++) bytes[end + i] = column.bytes[begin + i]!;
    else bytes.set(column.bytes.subarray(begin, begin + length), end);
    end += length;
    begin += length;
  }
  return end;
}

function writeHead(bytes: Uint8Array, at: number, tag: number, length: number): number {
  bytes[at] = tag;
  return writeVarint(bytes, at + 1, length);
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

function varintSize(value: number): number {
  return value < 1 << 7 ? 1 : value < 1 << 14 ? 2 : value < 1 << 21 ? 3 : value < 1 << 28 ? 4 : 5;
}

function writeZigzag(bytes: Uint8Array, start: number, value: number | bigint): number {
  if (typeof value === "number" && value < 0 && value >= -(2 ** 52)) return writeVarint(bytes, start, -value * 2 - 1);
  const exact = BigInt(value);
  let rest = BigInt.asUintN(64, exact >= 0n ? exact << 1n : (-exact << 1n) - 1n);
  let at = start;
  for (; rest > 0x7fn; rest >>= 7n) bytes[at++] = Number(rest & 0x7fn) | 0x80;
  bytes[at++] = Number(rest);
  return at;
}
