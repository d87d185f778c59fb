import type { KallsymsParts } from "../symbols/kallsyms.ts";

/** Writes a kernel's symbol table as scripts/kallsyms.c does. */

export interface SymbolEntry {
  readonly name: string;
  readonly type: string;
  readonly address: bigint;
}

/** See symbols/kallsyms.ts: relative to a base, the same with absolute per-CPU symbols, relative to the offset's own place, whole. */
export type KallsymsEncoding = "base" | "percpu" | "place" | "whole";

/** What frequent pairs come to: tokens beside the single bytes, in the places of bytes that no name has. */
const MERGED = ["__", "sys_", "init", "_t", "ext", "kallsyms_", "Ti", "D_", "start", "trace_"];

const merged: ReadonlyMap<string, number> = new Map(MERGED.map((text, i) => [text, i + 1]));

export function writeKallsyms(
  symbols: readonly SymbolEntry[],
  encoding: KallsymsEncoding,
  offsetsAddress: bigint,
  shortLengths = false,
): KallsymsParts {
  const tokens = Array.from({ length: 256 }, (_, byte) => Buffer.from([byte]));
  tokens[0] = Buffer.from("");
  for (const [text, token] of merged) tokens[token] = Buffer.from(text);
  const tokenIndex = Buffer.alloc(512);
  let at = 0;
  tokens.forEach((token, i) => {
    tokenIndex.writeUInt16LE(at, i * 2);
    at += token.length + 1;
  });
  const tokenTable = Buffer.concat(tokens.map((token) => Buffer.concat([token, Buffer.alloc(1)])));
  const names = Buffer.concat(symbols.map(({ type, name }) => entryOf(type + name, shortLengths)));
  const base = encoding === "place" || encoding === "whole" ? undefined : smallest(symbols);
  const offsets = Buffer.alloc(symbols.length * (encoding === "whole" ? 8 : 4));
  symbols.forEach(({ address }, i) => {
    if (encoding === "whole") offsets.writeBigUInt64LE(address, i * 8);
    else
      offsets.writeInt32LE(
        Number(BigInt.asIntN(32, offsetOf(address, i, encoding, base ?? 0n, offsetsAddress))),
        i * 4,
      );
  });
  const parts = { names, tokenTable, tokenIndex, offsets, offsetsAddress, relativeBase: base, count: symbols.length };
  return shortLengths ? { ...parts, shortLengths } : parts;
}

/** Which release's order the tables are in: see symbols/kallsyms-search.ts. */
export type KallsymsOrder = "6.4" | "6.2" | "4.20";

/** The tables one behind the other, aligned, as they lie in an image from the start on. */
export function layKallsyms(
  symbols: readonly SymbolEntry[],
  form: { encoding: KallsymsEncoding; order: KallsymsOrder; alignment?: 4 | 8; shortLengths?: boolean },
  start: bigint,
): { bytes: Uint8Array; places: Map<string, bigint>; parts: KallsymsParts } {
  const { encoding, order, alignment = 8, shortLengths } = form;
  // Where the offsets come to lie depends on their own length only before 6.4, where they are first.
  const draft = writeKallsyms(symbols, encoding, 0n, shortLengths);
  const markers = Buffer.alloc(Math.ceil(symbols.length / 256) * 4);
  let at = 0;
  for (let i = 0; i < symbols.length; i++) {
    if (i % 256 === 0) markers.writeUInt32LE(at, i / 64);
    const first = draft.names[at]!;
    at += first < 0x80 || shortLengths ? 1 + first : 2 + ((first & 0x7f) | (draft.names[at + 1]! << 7));
  }
  const number = (value: bigint, size: 4 | 8) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(value);
    return bytes.subarray(0, size);
  };
  const base: [string, Uint8Array][] =
    draft.relativeBase === undefined ? [] : [["kallsyms_relative_base", number(draft.relativeBase, 8)]];
  const names: [string, Uint8Array][] = [
    ["kallsyms_num_syms", number(BigInt(symbols.length), 4)],
    ["kallsyms_names", draft.names],
    ["kallsyms_markers", markers],
  ];
  const tokens: [string, Uint8Array][] = [
    ["kallsyms_token_table", draft.tokenTable],
    ["kallsyms_token_index", draft.tokenIndex],
  ];
  const offsets: [string, Uint8Array] = ["kallsyms_offsets", draft.offsets];
  const seqs: [string, Uint8Array] = ["kallsyms_seqs_of_names", Buffer.alloc(symbols.length * 3, 1)];
  const sections =
    order === "6.4"
      ? [...names, ...tokens, offsets, ...base, seqs]
      : [offsets, ...base, ...names, ...(order === "6.2" ? [seqs] : []), ...tokens];
  const places = new Map<string, bigint>();
  let end = 0;
  for (const [name, { length }] of sections) {
    const aligned = name === "kallsyms_relative_base" ? 8 : alignment;
    end = Math.ceil(end / aligned) * aligned;
    places.set(name, start + BigInt(end));
    end += length;
  }
  const parts = writeKallsyms(symbols, encoding, places.get("kallsyms_offsets")!, shortLengths);
  const bytes = Buffer.alloc(end);
  for (const [name, data] of sections)
    bytes.set(name === "kallsyms_offsets" ? parts.offsets : data, Number(places.get(name)! - start));
  return { bytes, places, parts };
}

/** Length and tokens of a name; the length in two bytes when it doesn't fit seven bits, unless lengths are short. */
function entryOf(text: string, shortLengths: boolean): Uint8Array {
  const tokens: number[] = [];
  for (let i = 0; i < text.length; ) {
    const found = [...merged].find(([pair]) => text.startsWith(pair, i));
    tokens.push(found?.[1] ?? text.charCodeAt(i));
    i += found?.[0].length ?? 1;
  }
  const { length } = tokens;
  return Buffer.from(
    length < 0x80 || shortLengths ? [length, ...tokens] : [0x80 | (length & 0x7f), length >> 7, ...tokens],
  );
}

function offsetOf(
  address: bigint,
  i: number,
  encoding: Exclude<KallsymsEncoding, "whole">,
  base: bigint,
  place: bigint,
): bigint {
  switch (encoding) {
    case "base":
      return address - base;
    case "percpu":
      return address < 1n << 31n ? address : base - 1n - address;
    case "place":
      return address - (place + BigInt(i * 4));
  }
}

function smallest(symbols: readonly SymbolEntry[]): bigint {
  return symbols.reduce((least, { address }) => (address >= 1n << 31n && address < least ? address : least), 1n << 64n);
}
