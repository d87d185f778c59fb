import { GuestError } from "../errors.ts";

/**
 * The kernel's own symbol table, read where it lies (kernel/kallsyms.c, scripts/kallsyms.c). A name is a length and
 * as many tokens; expanding the tokens gives nm's letter and the name. The address is one of several encodings of a
 * 32-bit offset, or whole.
 */
export interface KallsymsParts {
  /** From kallsyms_names on, at least to its end. */
  readonly names: Uint8Array;
  readonly tokenTable: Uint8Array;
  /** 256 u16, little endian. */
  readonly tokenIndex: Uint8Array;
  /** `count` s32, or as many u64 where addresses are whole; little endian. */
  readonly offsets: Uint8Array;
  readonly offsetsAddress: bigint;
  /** undefined where the kernel has none (7.0 on, and where addresses are whole). */
  readonly relativeBase: bigint | undefined;
  readonly count: number;
  /** A name's length is one byte, whatever it is (before 6.1). */
  readonly shortLengths?: boolean;
}

export interface KernelSymbol {
  /** Number in its symbol table. */
  readonly index: number;
  readonly name: string;
  /** nm's letter. */
  readonly type: string;
  readonly address: bigint;
  /** Absent for the kernel's own. */
  readonly module?: string;
}

/** Where a symbol's entry lies: enough to read it again without a search. */
export interface SymbolPosition {
  readonly index: number;
  /** Byte offset in kallsyms_names. */
  readonly position: number;
}

type Encoding = (table: KallsymsParts, index: number) => bigint;

/** Whole addresses: before 4.6 (2213e9a66bb8), and later without CONFIG_KALLSYMS_BASE_RELATIVE. */
const wholeAddress: Encoding = (table, index) => wholeAt(table.offsets, index);

/** Those of offsets, from the newest to the oldest. */
const relative: readonly Encoding[] = [
  // 7.0 on (a081b5789255): relative to the place of the offset itself.
  (table, index) => table.offsetsAddress + BigInt(index * 4) + BigInt(offsetAt(table, index)),
  // 4.6 to 6.15 on x86-64 with SMP: a per-CPU symbol's offset is absolute.
  (table, index) => {
    const offset = offsetAt(table, index);
    return offset >= 0 ? BigInt(offset) : (table.relativeBase ?? 0n) - 1n - BigInt(offset);
  },
  // 4.6 to 7.0: relative to kallsyms_relative_base.
  (table, index) => (table.relativeBase ?? 0n) + BigInt(offsetAt(table, index) >>> 0),
];

const MAX_NAME = 512;
const MARKER_STRIDE = 256;
const BASE = 31;

export class Kallsyms {
  readonly #parts: KallsymsParts;
  #encoding: Encoding | undefined;
  readonly #tokens: readonly Uint8Array[];
  #texts: readonly string[] | undefined;
  #markers: Uint32Array | undefined;
  /** A first byte of a length from here on has a second one. */
  readonly #wideFrom: number;

  /** Names can be looked up at once, addresses after {@link calibrate}. Throws GuestError "unsupported-kernel". */
  constructor(parts: KallsymsParts) {
    this.#parts = parts;
    this.#tokens = readTokens(parts);
    this.#wideFrom = parts.shortLengths ? 0x100 : 0x80;
  }

  /** Learns how addresses are encoded from a symbol whose address is known. Throws GuestError "unsupported-kernel". */
  calibrate(name: string, where: SymbolPosition | undefined, address: bigint): void {
    const fits = where !== undefined && this.#nameAt(where.position)?.slice(1) === name;
    const { offsets, count } = this.#parts;
    const encodings = offsets.length === count * 8 ? [wholeAddress] : relative;
    const encoding =
      fits && encodings.find((decode) => BigInt.asUintN(64, decode(this.#parts, where.index)) === address);
    if (!encoding) {
      throw new GuestError(
        "unsupported-kernel",
        `the kernel's symbol table does not hold ${name} at its address; its format is not known`,
      );
    }
    this.#encoding = encoding;
  }

  get count(): number {
    return this.#parts.count;
  }

  address(index: number): bigint {
    if (this.#encoding === undefined) throw new Error("calibrate() comes first");
    return BigInt.asUintN(64, this.#encoding(this.#parts, index));
  }

  /** The symbol whose entry is at a position. Undefined when no entry can be there. */
  at(where: SymbolPosition): KernelSymbol | undefined {
    const text = this.#nameAt(where.position);
    if (text === undefined || where.index < 0 || where.index >= this.count) return undefined;
    return { index: where.index, type: text.slice(0, 1), name: text.slice(1), address: this.address(where.index) };
  }

  /** nm's letter and the name. */
  #nameAt(position: number): string | undefined {
    const { names } = this.#parts;
    if (position < 0 || position >= names.length) return undefined;
    this.#texts ??= this.#tokens.map((token) => Buffer.from(token).toString("latin1"));
    const header = entryHeader(names, position, this.#wideFrom);
    let text = "";
    for (let i = header.start; i < header.start + header.length && i < names.length; i++) {
      text += this.#texts[names[i]!]!;
      if (text.length > MAX_NAME) return undefined;
    }
    return text;
  }

  /** The first symbol of each name, in one pass over the table. */
  find(wanted: readonly string[]): Map<string, SymbolPosition> {
    const found = new Map<string, SymbolPosition>();
    const distinct = new Set(wanted).size;
    this.search(wanted, (name, where) => {
      if (!found.has(name)) found.set(name, where);
      return found.size < distinct;
    });
    return found;
  }

  /**
   * Visits every symbol that has one of the names, in one pass over the table, until told to stop.
   *
   * The hash of a name is put together from those of its tokens, so a name is not expanded unless its hash is wanted:
   * hash(a ++ b) = hash(a) * BASE^|b| + hash(b). The type letter is the first byte of the first token and is left out.
   */
  search(wanted: Iterable<string>, visit: (name: string, where: SymbolPosition) => boolean): void {
    const byHash = new Map<number, Set<string>>();
    for (const name of wanted) {
      const hash = hashOf(Buffer.from(name, "latin1"), 0);
      byHash.set(hash, (byHash.get(hash) ?? new Set()).add(name));
    }
    const { names, count } = this.#parts;
    const wideFrom = this.#wideFrom;
    const whole = new Int32Array(256);
    const tail = new Int32Array(256);
    const power = new Int32Array(256);
    for (let token = 0; token < 256; token++) {
      const bytes = this.#tokens[token]!;
      whole[token] = hashOf(bytes, 0);
      tail[token] = hashOf(bytes, 1);
      power[token] = powerOf(bytes.length);
    }
    const filter = new Uint8Array(1 << 16);
    for (const hash of byHash.keys()) filter[hash & 0xffff] = 1;
    let position = 0;
    for (let index = 0; index < count && position < names.length; index++) {
      let length = names[position]!;
      let at = position + 1;
      if (length >= wideFrom) length = (length & 0x7f) | (names[at++]! << 7);
      const end = at + length;
      if (end > names.length) return;
      let hash = length > 0 ? tail[names[at]!]! : 0;
      for (let i = at + 1; i < end; i++) {
        const token = names[i]!;
        hash = (Math.imul(hash, power[token]!) + whole[token]!) | 0;
      }
      if (filter[hash & 0xffff] === 1) {
        const candidates = byHash.get(hash);
        const name = candidates && this.#nameAt(position)?.slice(1);
        if (name !== undefined && candidates?.has(name) && !visit(name, { index, position })) return;
      }
      position = end;
    }
  }

  /** The symbol at an address or the last before it, and the first of those that share the place; undefined before the first. */
  before(address: bigint): KernelSymbol | undefined {
    const last = this.#firstFrom(address + 1n) - 1;
    if (last < 0) return undefined;
    const index = this.#firstFrom(this.address(last));
    return this.at({ index, position: this.#positionOf(index) });
  }

  /** The address of the first symbol behind an address; undefined behind the last. */
  after(address: bigint): bigint | undefined {
    const index = this.#firstFrom(address + 1n);
    return index < this.count ? this.address(index) : undefined;
  }

  /** Index of the first symbol at an address or above; the count when there is none. */
  #firstFrom(address: bigint): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.address(middle) < address) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Every symbol in address order. */
  *[Symbol.iterator](): Generator<KernelSymbol> {
    const { names } = this.#parts;
    let position = 0;
    for (let index = 0; index < this.count && position < names.length; index++) {
      const symbol = this.at({ index, position });
      if (symbol !== undefined) yield symbol;
      const header = entryHeader(names, position, this.#wideFrom);
      position = header.start + header.length;
    }
  }

  #positionOf(index: number): number {
    const { names } = this.#parts;
    this.#markers ??= markersOf(names, this.count, this.#wideFrom);
    let position = this.#markers[Math.floor(index / MARKER_STRIDE)]!;
    for (let i = index % MARKER_STRIDE; i > 0; i--) {
      const header = entryHeader(names, position, this.#wideFrom);
      position = header.start + header.length;
    }
    return position;
  }
}

function offsetAt(table: KallsymsParts, index: number): number {
  const { offsets } = table;
  const at = index * 4;
  return offsets[at]! | (offsets[at + 1]! << 8) | (offsets[at + 2]! << 16) | (offsets[at + 3]! << 24);
}

function wholeAt(bytes: Uint8Array, index: number): bigint {
  return Buffer.from(bytes.buffer, bytes.byteOffset + index * 8, 8).readBigUInt64LE();
}

/** One byte of length, from 6.1 (73bbb94466fd) two when the first has its top bit set. */
export function entryHeader(names: Uint8Array, position: number, wideFrom: number): { start: number; length: number } {
  const first = names[position]!;
  return first < wideFrom
    ? { start: position + 1, length: first }
    : { start: position + 2, length: (first & 0x7f) | ((names[position + 1] ?? 0) << 7) };
}

function markersOf(names: Uint8Array, count: number, wideFrom: number): Uint32Array {
  const markers = new Uint32Array(Math.ceil(count / MARKER_STRIDE));
  let position = 0;
  for (let index = 0; index < count; index++) {
    if (index % MARKER_STRIDE === 0) markers[index / MARKER_STRIDE] = position;
    const header = entryHeader(names, position, wideFrom);
    position = header.start + header.length;
  }
  return markers;
}

function readTokens(parts: KallsymsParts): Uint8Array[] {
  const { tokenTable, tokenIndex } = parts;
  const tokens: Uint8Array[] = [];
  for (let token = 0; token < 256; token++) {
    const start = tokenIndex[token * 2]! | (tokenIndex[token * 2 + 1]! << 8);
    const end = tokenTable.indexOf(0, start);
    if (start >= tokenTable.length || end < 0 || end - start > MAX_NAME) {
      throw new GuestError("unsupported-kernel", "the kernel's symbol tokens are damaged");
    }
    tokens.push(tokenTable.slice(start, end));
  }
  return tokens;
}

function hashOf(bytes: Uint8Array, from: number): number {
  let hash = 0;
  for (let i = from; i < bytes.length; i++) hash = (Math.imul(hash, BASE) + bytes[i]!) | 0;
  return hash;
}

function powerOf(length: number): number {
  let power = 1;
  for (let i = 0; i < length; i++) power = Math.imul(power, BASE);
  return power;
}
