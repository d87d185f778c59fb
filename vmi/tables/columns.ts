import { formatHalves } from "../bytes/address.ts";

/**
 * Rows are built as columns, and text stays the guest's bytes: nothing is turned into strings or objects on the way out.
 */

/** Why a cell has no value. The numbers are those of CellState in the public contract. */
export const CELL = { present: 0, notApplicable: 1, unreadable: 2, torn: 3, unsupported: 4 } as const;
export type CellState = (typeof CELL)[keyof typeof CELL];
export type AbsentState = Exclude<CellState, typeof CELL.present>;

export type ColumnData =
  | { readonly kind: "integer"; readonly values: Float64Array; readonly states: Uint8Array | undefined }
  | {
      readonly kind: "text";
      readonly bytes: Uint8Array;
      /** Of each row: where its text ends in `bytes`, and the next begins. */
      readonly ends: Uint32Array;
      readonly states: Uint8Array | undefined;
    };

const FIRST_ROWS = 64;

abstract class Column {
  length = 0;
  #states: Uint8Array | undefined;

  protected mark(state: AbsentState): void {
    if (this.#states === undefined || this.#states.length <= this.length) {
      const states = new Uint8Array(Math.max(FIRST_ROWS, (this.length + 1) * 2));
      if (this.#states !== undefined) states.set(this.#states);
      this.#states = states;
    }
    this.#states[this.length] = state;
  }

  protected states(rows: number): Uint8Array | undefined {
    if (this.#states === undefined) return undefined;
    const states = new Uint8Array(rows);
    states.set(this.#states.subarray(0, rows));
    return states.some((state) => state !== CELL.present) ? states : undefined;
  }

  /** True when the last cell has a value. */
  protected get lastPresent(): boolean {
    return (this.#states?.[this.length - 1] ?? CELL.present) === CELL.present;
  }

  protected clearLast(): void {
    if (this.#states !== undefined && this.length - 1 < this.#states.length)
      this.#states[this.length - 1] = CELL.present;
  }

  abstract absent(state: AbsentState): void;
  /** Takes back the last cell. */
  abstract drop(): void;
  /** True when the last cell has one of the values, as a request writes them. */
  abstract lastIsOneOf(values: ReadonlySet<string>): boolean;
  abstract finish(): ColumnData;
}

/** 64-bit signed integers, exact up to 2^53. */
export class IntegerColumn extends Column {
  #values = new Float64Array(FIRST_ROWS);

  push(value: number): void {
    if (this.length === this.#values.length) this.#grow();
    this.#values[this.length++] = value;
  }

  /** A value, or a state when there is none. */
  pushOr(value: number | undefined, state: AbsentState): void {
    if (value === undefined) this.absent(state);
    else this.push(value);
  }

  absent(state: AbsentState): void {
    this.mark(state);
    this.push(0);
  }

  drop(): void {
    this.clearLast();
    this.length--;
  }

  lastIsOneOf(values: ReadonlySet<string>): boolean {
    return this.lastPresent && values.has(String(this.#values[this.length - 1]));
  }

  finish(): ColumnData {
    return { kind: "integer", values: this.#values.subarray(0, this.length), states: this.states(this.length) };
  }

  #grow(): void {
    const values = new Float64Array(this.#values.length * 2);
    values.set(this.#values);
    this.#values = values;
  }
}

/** Text as the guest has it: bytes of no guaranteed encoding. */
export class TextColumn extends Column {
  #bytes = new Uint8Array(FIRST_ROWS * 16);
  #ends = new Uint32Array(FIRST_ROWS);
  #used = 0;

  /** Text of the engine's own making. */
  push(text: string): void {
    for (let i = 0; i < text.length; i++) {
      if (text.charCodeAt(i) > 0x7f) {
        this.pushBytes(Buffer.from(text));
        return;
      }
    }
    this.#reserve(text.length);
    for (let i = 0; i < text.length; i++) this.#bytes[this.#used + i] = text.charCodeAt(i);
    this.#end(text.length);
  }

  pushBytes(source: Uint8Array, from = 0, to = source.length): void {
    this.#reserve(to - from);
    this.#bytes.set(source.subarray(from, to), this.#used);
    this.#end(to - from);
  }

  /** The bytes from `from` on to the first zero, at most `maximum`: short text without an object for it. */
  pushUntilZero(source: Uint8Array, from: number, maximum: number): void {
    this.#reserve(maximum);
    const bytes = this.#bytes;
    const start = this.#used;
    let length = 0;
    for (; length < maximum; length++) {
      const byte = source[from + length]!;
      if (byte === 0) break;
      bytes[start + length] = byte;
    }
    this.#end(length);
  }

  pushCode(code: number): void {
    this.#reserve(1);
    this.#bytes[this.#used] = code;
    this.#end(1);
  }

  pushAddress(hi: number, lo: number): void {
    this.push(formatHalves(hi, lo));
  }

  /** Bytes, or a state when there are none. */
  pushOr(value: Uint8Array | undefined, state: AbsentState): void {
    if (value === undefined) this.absent(state);
    else this.pushBytes(value);
  }

  absent(state: AbsentState): void {
    this.mark(state);
    this.#reserve(0);
    this.#end(0);
  }

  drop(): void {
    this.clearLast();
    this.length--;
    this.#used = this.length === 0 ? 0 : this.#ends[this.length - 1]!;
  }

  lastIsOneOf(values: ReadonlySet<string>): boolean {
    if (!this.lastPresent) return false;
    const start = this.length < 2 ? 0 : this.#ends[this.length - 2]!;
    return values.has(Buffer.from(this.#bytes.subarray(start, this.#used)).toString());
  }

  finish(): ColumnData {
    return {
      kind: "text",
      bytes: this.#bytes.subarray(0, this.#used),
      ends: this.#ends.subarray(0, this.length),
      states: this.states(this.length),
    };
  }

  #end(length: number): void {
    this.#used += length;
    this.#ends[this.length++] = this.#used;
  }

  #reserve(length: number): void {
    if (this.length === this.#ends.length) {
      const ends = new Uint32Array(this.#ends.length * 2);
      ends.set(this.#ends);
      this.#ends = ends;
    }
    if (this.#used + length > this.#bytes.length) {
      const bytes = new Uint8Array(Math.max(this.#bytes.length * 2, this.#used + length));
      bytes.set(this.#bytes.subarray(0, this.#used));
      this.#bytes = bytes;
    }
  }

  /** Bytes held so far. */
  get size(): number {
    return this.#used;
  }
}

export type AnyColumn = IntegerColumn | TextColumn;
