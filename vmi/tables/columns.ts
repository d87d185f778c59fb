import type { Integer } from "../bytes/integer.ts";
import { GuestError } from "../errors.ts";

/**
 * Rows are built as columns, and text stays the guest's bytes: nothing is turned into strings or objects on the way out.
 */

/** Why a cell has no value. The numbers are those of CellState in the public contract. */
export const CELL = { present: 0, notApplicable: 1, unreadable: 2, torn: 3, unsupported: 4 } as const;
export type CellState = (typeof CELL)[keyof typeof CELL];
export type AbsentState = Exclude<CellState, typeof CELL.present>;

export type ColumnData =
  | {
      readonly kind: "integer";
      readonly values: readonly number[];
      /** By row, the values that no number holds exactly: `values` has the nearest ones. Undefined where there are none. */
      readonly wide?: ReadonlyMap<number, bigint> | undefined;
      readonly states: Uint8Array | undefined;
    }
  | {
      readonly kind: "text";
      readonly bytes: Uint8Array;
      /** Of each row: where its text ends in `bytes`, and the next begins. */
      readonly ends: readonly number[];
      readonly states: Uint8Array | undefined;
    };

const HEX = "0123456789abcdef";
/** The two digits of each byte, the first in the upper half. */
const HEX_OF_BYTE = Uint16Array.from(
  { length: 256 },
  (_, byte) => (HEX.charCodeAt(byte >>> 4) << 8) | HEX.charCodeAt(byte & 0xf),
);
/** Bytes that a loop copies as fast as the runtime's own call: all of something, or a part of it. */
const SHORT = 8;
const SHORT_PART = 24;
/** "0x" */
const ZERO_X = 0x3078;
const FIRST_ROWS = 64;
const FIRST_BYTES = 2048;
/** Bytes of a name, more or less. */
const EXPECTED_TEXT = 12;
/** More than this does not come from Node's pool (half of Buffer.poolSize), which costs several times as much. */
const POOLED = 4095;
/** A column with more text would not fit an inspector's memory, nor an answer. */
const MAX_TEXT = 64 << 20;
/** What a row takes beside its text. */
const CELL_BYTES = 8;

abstract class Column {
  abstract get length(): number;
  #states: Uint8Array | undefined;

  protected mark(state: AbsentState): void {
    if (this.#states === undefined || this.#states.length <= this.length) {
      const states = new Uint8Array(Math.max(FIRST_ROWS, (this.length + 1) * 2));
      if (this.#states !== undefined) states.set(this.#states);
      this.#states = states;
    }
    this.#states[this.length] = state;
  }

  protected isPresent(row: number): boolean {
    return (this.#states?.[row] ?? CELL.present) === CELL.present;
  }

  /** Forgets the states of rows that are taken back. */
  protected clearFrom(row: number): void {
    this.#states?.fill(CELL.present, row);
  }

  /** The states of the rows to keep; undefined when all of them have a value. */
  protected states(keep: readonly number[] | undefined): Uint8Array | undefined {
    const all = this.#states;
    if (all === undefined) return undefined;
    const states = new Uint8Array(keep?.length ?? this.length);
    for (let i = 0; i < states.length; i++) states[i] = all[keep === undefined ? i : keep[i]!] ?? CELL.present;
    return states.some((state) => state !== CELL.present) ? states : undefined;
  }

  /** Bytes held so far. */
  abstract get size(): number;
  abstract absent(state: AbsentState): void;
  /** Takes back every row from this one on. */
  abstract truncate(rows: number): void;
  /** True when the cell has one of the values, as a request writes them. */
  abstract isOneOf(row: number, values: ReadonlySet<string>): boolean;
  /** What has been written: all rows, or those to keep. */
  abstract finish(keep?: readonly number[]): ColumnData;
}

/** 64-bit signed integers. */
export class IntegerColumn extends Column {
  readonly #values: number[];
  /** Apart, since an array that holds a bigint costs every row of it. */
  #wide: Map<number, bigint> | undefined;
  #rows = 0;

  /** @param rows how many are expected: an array that grows costs several times what is put in it */
  constructor(rows = 0) {
    super();
    this.#values = arrayFor(rows);
  }

  get length(): number {
    return this.#rows;
  }

  get size(): number {
    return this.length * CELL_BYTES;
  }

  push(value: number): void {
    this.#values[this.#rows++] = value;
  }

  /** A value, or a state when there is none; nor is a number that may not be exact one, or what 64 bits don't hold. */
  pushOr(value: Integer | undefined, state: AbsentState): void {
    if (typeof value === "bigint") this.#pushWide(value, state);
    else if (value === undefined || !Number.isSafeInteger(value)) this.absent(state);
    else this.push(value);
  }

  #pushWide(value: bigint, state: AbsentState): void {
    if (BigInt.asIntN(64, value) !== value) {
      this.absent(state);
      return;
    }
    this.#wide ??= new Map();
    this.#wide.set(this.#rows, value);
    this.push(Number(value));
  }

  absent(state: AbsentState): void {
    this.mark(state);
    this.push(0);
  }

  truncate(rows: number): void {
    this.clearFrom(rows);
    this.#rows = rows;
    for (const row of this.#wide?.keys() ?? []) if (row >= rows) this.#wide!.delete(row);
  }

  isOneOf(row: number, values: ReadonlySet<string>): boolean {
    return this.isPresent(row) && values.has(String(this.#wide?.get(row) ?? this.#values[row]));
  }

  finish(keep?: readonly number[]): ColumnData {
    this.#values.length = this.#rows;
    const values = keep === undefined ? this.#values : keep.map((row) => this.#values[row]!);
    return { kind: "integer", values, wide: this.#wideOf(keep), states: this.states(keep) };
  }

  #wideOf(keep: readonly number[] | undefined): ReadonlyMap<number, bigint> | undefined {
    const all = this.#wide;
    if (all === undefined || keep === undefined) return all;
    return new Map(keep.flatMap((row, to) => (all.has(row) ? [[to, all.get(row)!] as const] : [])));
  }
}

/** Text as the guest has it: bytes of no guaranteed encoding. */
export class TextColumn extends Column {
  // Typed arrays of their own cost more than what is put in them.
  #bytes: Uint8Array;
  #view: DataView;
  readonly #ends: number[];
  #rows = 0;
  #used = 0;

  /** @param rows as of an IntegerColumn */
  constructor(rows = 0) {
    super();
    this.#ends = arrayFor(rows);
    this.#bytes = Buffer.allocUnsafe(Math.min(Math.max(rows * EXPECTED_TEXT, FIRST_BYTES), POOLED));
    this.#view = viewOf(this.#bytes);
  }

  get length(): number {
    return this.#rows;
  }

  /** Text of the engine's own making. */
  push(text: string): void {
    this.#reserve(text.length);
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      if (code > 0x7f) {
        this.pushBytes(Buffer.from(text));
        return;
      }
      this.#bytes[this.#used + i] = code;
    }
    this.#end(text.length);
  }

  pushBytes(source: Uint8Array, from = 0, to = source.length): void {
    const length = to - from;
    this.#reserve(length);
    const bytes = this.#bytes;
    const start = this.#used;
    // The runtime's own call takes as long as a loop over a few bytes; with an object for a part of something, over some dozen.
    const whole = length === source.length;
    if (length <= (whole ? SHORT : SHORT_PART)) for (let i = 0; i < length; i++) bytes[start + i] = source[from + i]!;
    else bytes.set(whole ? source : source.subarray(from, to), start);
    this.#end(length);
  }

  /** Bytes to the first zero, at most `words` times four: short text without an object for it, and four at a time. */
  pushUntilZero(source: DataView, from: number, words: number): void {
    this.#reserve(words * 4);
    const view = this.#view;
    const start = this.#used;
    for (let word = 0; word < words; word++) {
      const four = source.getInt32(from + word * 4, true);
      view.setInt32(start + word * 4, four, true);
      // The lowest byte that is zero has its top bit set here, and none below it has.
      const zeros = (four - 0x0101_0101) & ~four & 0x8080_8080;
      if (zeros !== 0) {
        this.#end(word * 4 + ((31 - Math.clz32(zeros & -zeros)) >>> 3));
        return;
      }
    }
    this.#end(words * 4);
  }

  pushCode(code: number): void {
    this.#reserve(1);
    this.#bytes[this.#used] = code;
    this.#end(1);
  }

  /** As formatHalves() has it. */
  pushAddress(hi: number, lo: number): void {
    this.#reserve(18);
    this.#view.setUint16(this.#used, ZERO_X);
    this.#used += 2;
    this.#putHex(hi, lo);
  }

  /** The sixteen hexadecimal digits of a 64-bit value. */
  pushHex(hi: number, lo: number): void {
    this.#reserve(16);
    this.#putHex(hi, lo);
  }

  #putHex(hi: number, lo: number): void {
    const view = this.#view;
    const at = this.#used;
    for (let byte = 0; byte < 4; byte++) {
      const shift = 24 - 8 * byte;
      view.setUint16(at + byte * 2, HEX_OF_BYTE[(hi >>> shift) & 0xff]!);
      view.setUint16(at + 8 + byte * 2, HEX_OF_BYTE[(lo >>> shift) & 0xff]!);
    }
    this.#end(16);
  }

  /** Bytes, or a state when there are none. */
  pushOr(value: Uint8Array | undefined, state: AbsentState): void {
    if (value === undefined) this.absent(state);
    else this.pushBytes(value);
  }

  absent(state: AbsentState): void {
    this.mark(state);
    this.#end(0);
  }

  truncate(rows: number): void {
    this.clearFrom(rows);
    this.#rows = rows;
    this.#used = this.#startOf(rows);
  }

  isOneOf(row: number, values: ReadonlySet<string>): boolean {
    if (!this.isPresent(row)) return false;
    return values.has(Buffer.from(this.#bytes.subarray(this.#startOf(row), this.#ends[row])).toString());
  }

  finish(keep?: readonly number[]): ColumnData {
    this.#ends.length = this.#rows;
    if (keep === undefined) {
      return { kind: "text", bytes: this.#bytes.subarray(0, this.#used), ends: this.#ends, states: this.states(keep) };
    }
    const kept = new TextColumn();
    for (const row of keep) kept.pushBytes(this.#bytes, this.#startOf(row), this.#ends[row]);
    return { kind: "text", bytes: kept.#bytes.subarray(0, kept.#used), ends: kept.#ends, states: this.states(keep) };
  }

  #startOf(row: number): number {
    return row === 0 ? 0 : this.#ends[row - 1]!;
  }

  #end(length: number): void {
    this.#used += length;
    this.#ends[this.#rows++] = this.#used;
  }

  #reserve(length: number): void {
    if (this.#used + length <= this.#bytes.length) return;
    if (this.#used + length > MAX_TEXT) throw tooLarge();
    const bytes = Buffer.allocUnsafe(Math.max(Math.min(this.#bytes.length * 4, MAX_TEXT), this.#used + length));
    bytes.set(this.#bytes.subarray(0, this.#used));
    this.#bytes = bytes;
    this.#view = viewOf(bytes);
  }

  get size(): number {
    return this.#used + this.length * CELL_BYTES;
  }
}

/** The answer would be larger than what can be given. */
export function tooLarge(): GuestError {
  return new GuestError(
    "over-budget",
    "the answer is too large; ask for fewer columns, or add a constraint or a limit",
  );
}

export type AnyColumn = IntegerColumn | TextColumn;

/** An array with room for so many. */
function arrayFor(rows: number): number[] {
  const array: number[] = [];
  array.length = rows;
  return array;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
