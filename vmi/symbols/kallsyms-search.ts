import { entryHeader, type Kallsyms, type KallsymsParts } from "./kallsyms.ts";

/**
 * Where a kernel's symbol table lies in its image, for kernels whose VMCOREINFO does not say so (before 6.0:
 * 5fd8fea935a1, f09bddbd8661). scripts/kallsyms.c writes the tables one behind the other, each aligned:
 *
 * - from 6.4 (404bad70fcf7): num_syms, names, markers, token_table, token_index, offsets, [relative_base], seqs_of_names
 * - before: addresses, or offsets and relative_base; num_syms, names, markers, [seqs_of_names], token_table, token_index
 *
 * A digit is a token of its own in every kernel, so token_table has a run of ten that no other data has. What it leads
 * to has to agree: the index with the tokens, the markers with the names, the count with both.
 */

/** A part of a kernel's image that is one piece of physical memory too. */
export interface ImagePiece {
  readonly address: bigint;
  readonly length: number;
  /** Bytes from an offset into it: in place where memory is mapped, else a copy. Undefined when they can't be read. */
  read(from: number, length: number): Uint8Array | undefined;
}

export interface FoundKallsyms extends Proven {
  /** Where the digits of its token_table are: enough to find it again. */
  readonly digits: bigint;
}

/**
 * The symbol table whose symbols are where they are known to be; undefined when it is none of these, which differ in
 * their addresses only.
 */
export type Prove = (variants: readonly KallsymsParts[]) => Proven | undefined;

interface Proven {
  readonly kallsyms: Kallsyms;
  readonly parts: KallsymsParts;
}

const DIGITS = Buffer.from("0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00", "latin1");
const FIRST_DIGIT = 0x30;
const TOKENS = 256;
const INDEX_BYTES = TOKENS * 2;
/** Bytes looked through at once where memory has to be copied. */
const CHUNK = 4 << 20;
/** Bytes of all tokens, and of one (scripts/kallsyms.c expands none to more than a name). */
const MAX_TOKEN_TABLE = 1 << 16;
const MAX_TOKEN = 512;
const MAX_SYMBOLS = 1 << 20;
const MARKER_STRIDE = 256;
/** Bytes of 256 names: each is its length, in one or two bytes, and up to KSYM_NAME_LEN tokens. */
const MIN_BLOCK = MARKER_STRIDE * 2;
const MAX_BLOCK = MARKER_STRIDE * 514;
/** Bytes before token_table and behind it in which the other tables lie. */
const BEFORE = 24 << 20;
const BEHIND = 6 << 20;
/** Steps that all of a search may take: a table of Debian's takes some 300,000. */
const MAX_STEPS = 16_000_000;
/** Runs of digits that are looked at, and those of them that are followed by a fitting index. */
const MAX_RUNS = 4096;
const MAX_TABLES = 8;
/** `.balign 8`; `.balign 4` would do for all but relative_base. */
const ALIGNMENTS = [8, 4] as const;

interface Work {
  steps: number;
  runs: number;
  tables: number;
}

/**
 * The first symbol table in these pieces that can be proven; undefined when there is none, or not within bounds.
 *
 * @param pieces may take time to make: no more are asked for than are needed
 * @param hints where digits may be: looked at first
 */
export function findKallsyms(
  pieces: () => Iterable<ImagePiece>,
  prove: Prove,
  hints: readonly bigint[] = [],
): FoundKallsyms | undefined {
  const work: Work = { steps: MAX_STEPS, runs: MAX_RUNS, tables: MAX_TABLES };
  if (hints.length > 0) {
    for (const piece of pieces()) {
      for (const hint of hints) {
        if (hint < piece.address || hint >= piece.address + BigInt(piece.length)) continue;
        const found = tablesAt(piece, Number(hint - piece.address), prove, work);
        if (found !== undefined) return found;
      }
    }
  }
  for (const piece of pieces()) {
    const found = search(piece, prove, work);
    if (found !== undefined) return found;
  }
  return undefined;
}

function search(piece: ImagePiece, prove: Prove, work: Work): FoundKallsyms | undefined {
  for (let start = 0; start < piece.length; start += CHUNK) {
    const bytes = piece.read(start, Math.min(piece.length - start, CHUNK + DIGITS.length - 1));
    if (bytes === undefined) continue;
    const chunk = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let at = chunk.indexOf(DIGITS); at >= 0; at = chunk.indexOf(DIGITS, at + 1)) {
      if (work.runs-- <= 0 || work.tables <= 0 || work.steps <= 0) return undefined;
      const found = tablesAt(piece, start + at, prove, work);
      if (found !== undefined) return found;
    }
  }
  return undefined;
}

/** The symbol table whose tokens for digits are here. */
function tablesAt(piece: ImagePiece, digits: number, prove: Prove, work: Work): FoundKallsyms | undefined {
  const near = Math.max(0, roundDown(digits - MAX_TOKEN_TABLE, 8));
  const around = piece.read(near, Math.min(piece.length, digits + MAX_TOKEN_TABLE) - near);
  const tokens = around && tokensAround(around, digits - near);
  if (tokens === undefined || work.tables-- <= 0) return undefined;
  const start = Math.max(0, roundDown(near + tokens.table - BEFORE, 8));
  const bytes = piece.read(start, Math.min(piece.length, near + tokens.index + BEHIND) - start);
  if (bytes === undefined) return undefined;
  const window: Window = {
    view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length),
    bytes,
    address: piece.address + BigInt(start),
    table: near + tokens.table - start,
    index: near + tokens.index - start,
    take: (from, length) => piece.read(start + from, length),
  };
  for (const names of nameTables(window, work)) {
    const variants = addressTables(window, names);
    const proven = variants.length > 0 ? prove(variants) : undefined;
    if (proven !== undefined) return { ...proven, digits: piece.address + BigInt(digits) };
  }
  return undefined;
}

/** Where token_table and token_index begin, when the index that follows the tokens is theirs. */
function tokensAround(bytes: Uint8Array, digits: number): { table: number; index: number } | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let end = digits;
  for (let token = FIRST_DIGIT; token < TOKENS; token++) {
    const zero = bytes.indexOf(0, end);
    if (zero < 0 || zero - end > MAX_TOKEN) return undefined;
    end = zero + 1;
  }
  for (const alignment of ALIGNMENTS) {
    const index = roundUp(end, alignment);
    if (index + INDEX_BYTES > bytes.length) continue;
    const table = digits - view.getUint16(index + FIRST_DIGIT * 2, true);
    if (table >= 0 && table % alignment === 0 && indexFits(bytes, view, table, index, end)) return { table, index };
  }
  return undefined;
}

function indexFits(bytes: Uint8Array, view: DataView, table: number, index: number, end: number): boolean {
  let at = table;
  for (let token = 0; token < TOKENS; token++) {
    if (view.getUint16(index + token * 2, true) !== at - table) return false;
    const zero = bytes.indexOf(0, at);
    if (zero < 0 || zero >= end) return false;
    at = zero + 1;
  }
  return at === end;
}

/** The bytes around a token_table, from a multiple of 8 on; positions are within them. */
interface Window {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly address: bigint;
  readonly table: number;
  readonly index: number;
  /** Bytes for good, which keep nothing else of the window. */
  take(from: number, length: number): Uint8Array | undefined;
}

interface Names {
  readonly alignment: number;
  readonly count: number;
  readonly numSyms: number;
  readonly start: number;
  readonly end: number;
  readonly shortLengths: boolean;
}

/** Every kallsyms_names before a token_table that its markers agree with; as a rule one. */
function* nameTables(window: Window, work: Work): Generator<Names> {
  const { view } = window;
  for (const alignment of ALIGNMENTS) {
    for (const { start, markers, count } of markerTables(window, alignment, work)) {
      const last = view.getUint32(start + (markers - 1) * 4, true);
      const lowest = Math.max(alignment, start - last - MAX_BLOCK - alignment);
      for (let at = roundDown(start - last - 1, alignment); at >= lowest; at -= alignment) {
        const numSyms = at - alignment;
        const symbols = view.getUint32(numSyms, true);
        if (Math.ceil(symbols / MARKER_STRIDE) !== markers || (count !== undefined && count !== symbols)) continue;
        if (alignment === 8 && view.getUint32(numSyms + 4, true) !== 0) continue;
        for (const shortLengths of [false, true]) {
          const end = namesEnd(window, { at, symbols, markers: start, shortLengths }, work);
          if (end === undefined || roundUp(end, alignment) !== start) continue;
          yield { alignment, count: symbols, numSyms, start: at, end, shortLengths };
        }
      }
    }
  }
}

interface Markers {
  readonly start: number;
  /** How many. */
  readonly markers: number;
  /** Symbols that there are, where more than the markers tells. */
  readonly count?: number;
}

/** Every kallsyms_markers (u32 from 4.20: 80ffbaa5b1bd) that may be before a token_table. */
function* markerTables(window: Window, alignment: number, work: Work): Generator<Markers> {
  const { view, table } = window;
  for (let end = table; end > table - alignment; end -= 4) {
    let start = end - 4;
    while (start >= 4 && work.steps-- > 0 && rises(view, start - 4)) start -= 4;
    if (start >= 0 && start % alignment === 0 && view.getUint32(start, true) === 0)
      yield { start, markers: (end - start) / 4 };
  }
  // 6.2 (60443c88f3a8) and 6.3 have three bytes a symbol in between.
  for (let seqs = roundDown(table - 3, alignment); seqs > table - 3 * MAX_SYMBOLS; seqs -= alignment) {
    for (let count = Math.floor((table - seqs) / 3); roundUp(seqs + count * 3, alignment) === table; count--) {
      const markers = Math.ceil(count / MARKER_STRIDE);
      const start = roundDown(seqs - markers * 4, alignment);
      if (start < 0 || work.steps-- <= 0) return;
      if (view.getUint32(start, true) !== 0 || roundUp(start + markers * 4, alignment) !== seqs) continue;
      let risen = 1;
      while (risen < markers && work.steps-- > 0 && rises(view, start + (risen - 1) * 4)) risen++;
      if (risen === markers) yield { start, markers, count };
    }
  }
}

/** True when a marker and the next are as far from each other as 256 names can be long. */
function rises(view: DataView, at: number): boolean {
  const step = view.getUint32(at + 4, true) - view.getUint32(at, true);
  return step >= MIN_BLOCK && step <= MAX_BLOCK;
}

/** Where the last name ends; undefined when the names do not begin where their markers say. */
function namesEnd(
  { bytes, view }: Window,
  names: { at: number; symbols: number; markers: number; shortLengths: boolean },
  work: Work,
): number | undefined {
  const wideFrom = names.shortLengths ? 0x100 : 0x80;
  let position = names.at;
  for (let index = 0; index < names.symbols; index++) {
    if (index % MARKER_STRIDE === 0) {
      work.steps -= MARKER_STRIDE;
      const marker = view.getUint32(names.markers + (index / MARKER_STRIDE) * 4, true);
      if (work.steps <= 0 || position - names.at !== marker) return undefined;
    }
    const header = entryHeader(bytes, position, wideFrom);
    position = header.start + header.length;
    if (header.length === 0 || position > names.markers) return undefined;
  }
  return position;
}

/** The symbol table with each place and form that its addresses can have. */
function addressTables(window: Window, { alignment, count, numSyms, ...found }: Names): KallsymsParts[] {
  const { view, table, index, address, take } = window;
  const names = take(found.start, found.end - found.start);
  const tokenTable = take(table, index - table);
  const tokenIndex = take(index, INDEX_BYTES);
  if (names === undefined || tokenTable === undefined || tokenIndex === undefined) return [];
  const behind = roundUp(index + INDEX_BYTES, alignment);
  const base = roundDown(numSyms - 8, 8);
  const forms = [
    { at: behind, size: 4, base: roundUp(behind + count * 4, 8) },
    { at: roundDown(base - count * 4, alignment), size: 4, base },
    { at: roundDown(numSyms - count * 8, 8), size: 8, base: undefined },
  ];
  const variants: KallsymsParts[] = [];
  for (const { at, size, base } of forms) {
    if (at < 0 || (base !== undefined && base + 8 > view.byteLength)) continue;
    const offsets = take(at, count * size);
    if (offsets === undefined) continue;
    const relativeBase = base === undefined ? undefined : view.getBigUint64(base, true);
    const addresses = { offsets, offsetsAddress: address + BigInt(at), relativeBase };
    variants.push({ names, tokenTable, tokenIndex, count, shortLengths: found.shortLengths, ...addresses });
  }
  return variants;
}

function roundUp(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment;
}

function roundDown(value: number, alignment: number): number {
  return Math.floor(value / alignment) * alignment;
}
