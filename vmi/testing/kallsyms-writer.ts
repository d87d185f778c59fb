import type { KallsymsParts } from "../symbols/kallsyms.ts";

/** Writes a kernel's symbol table as scripts/kallsyms.c does. */

export interface SymbolEntry {
  readonly name: string;
  readonly type: string;
  readonly address: bigint;
}

/** See symbols/kallsyms.ts: relative to a base, the same with absolute per-CPU symbols, relative to the offset's own place. */
export type KallsymsEncoding = "base" | "percpu" | "place";

/** What frequent pairs come to: tokens beside the single bytes, in the places of bytes that no name has. */
const MERGED = ["__", "sys_", "init", "_t", "ext", "kallsyms_", "Ti", "D_", "start", "trace_"];

const merged: ReadonlyMap<string, number> = new Map(MERGED.map((text, i) => [text, i + 1]));

export function writeKallsyms(
  symbols: readonly SymbolEntry[],
  encoding: KallsymsEncoding,
  offsetsAddress: bigint,
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
  const names = Buffer.concat(symbols.map(({ type, name }) => entryOf(type + name)));
  const base = encoding === "place" ? undefined : smallest(symbols);
  const offsets = Buffer.alloc(symbols.length * 4);
  symbols.forEach(({ address }, i) => {
    offsets.writeInt32LE(Number(BigInt.asIntN(32, offsetOf(address, i, encoding, base ?? 0n, offsetsAddress))), i * 4);
  });
  return { names, tokenTable, tokenIndex, offsets, offsetsAddress, relativeBase: base, count: symbols.length };
}

/** Length and tokens of a name; the length in two bytes when it doesn't fit seven bits. */
function entryOf(text: string): Uint8Array {
  const tokens: number[] = [];
  for (let i = 0; i < text.length; ) {
    const found = [...merged].find(([pair]) => text.startsWith(pair, i));
    tokens.push(found?.[1] ?? text.charCodeAt(i));
    i += found?.[0].length ?? 1;
  }
  const { length } = tokens;
  return Buffer.from(length < 0x80 ? [length, ...tokens] : [0x80 | (length & 0x7f), length >> 7, ...tokens]);
}

function offsetOf(address: bigint, i: number, encoding: KallsymsEncoding, base: bigint, place: bigint): bigint {
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
