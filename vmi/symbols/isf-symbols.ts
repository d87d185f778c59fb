import { START_KERNEL_MAP } from "../arch/x86-64.ts";
import { damaged, Scanner } from "./isf-scanner.ts";
import type { KallsymsParts } from "./kallsyms.ts";

/** The symbols of an ISF (`symbols`), with addresses as the kernel was linked: KASLR has not moved them. */
export interface LinkedSymbols {
  readonly names: readonly string[];
  readonly addresses: BigUint64Array;
  /** What the kernel says of itself at `linux_banner`; undefined where the file does not tell. */
  readonly banner: Buffer | undefined;
}

/** Symbols, bytes of a name, and bytes of a banner; more is not believed. */
const MAX_SYMBOLS = 1 << 20;
const MAX_NAME = 511;
const MAX_BANNER = 1024;
const SHORT_LENGTH = 0x80;

/** Undefined when the file has none. Throws GuestError "bad-request" when it is damaged. */
export function symbolsOfIsf(text: Uint8Array): LinkedSymbols | undefined {
  const names: string[] = [];
  const addresses: bigint[] = [];
  let banner: Buffer | undefined;
  const scanner = new Scanner(text);
  scanner.members((section) => {
    if (section !== "symbols") return scanner.skip();
    scanner.members((name) => {
      let address = "";
      scanner.members((member) => {
        if (member === "address") address = scanner.text();
        else if (member === "constant_data" && name === "linux_banner") banner = bannerOf(scanner.value());
        else scanner.skip();
      });
      if (!/^\d{1,20}$/.test(address) || names.length >= MAX_SYMBOLS) throw damaged();
      if (!/^[\x21-\x7e]+$/.test(name) || name.length > MAX_NAME) return;
      names.push(name);
      addresses.push(BigInt(address));
    });
  });
  return names.length === 0 ? undefined : { names, addresses: BigUint64Array.from(addresses), banner };
}

/** Base64, with or without the zero at its end. */
function bannerOf(value: unknown): Buffer | undefined {
  if (typeof value !== "string") return undefined;
  const bytes = Buffer.from(value.slice(0, MAX_BANNER * 2), "base64");
  const end = bytes.indexOf(0);
  const text = end < 0 ? bytes : bytes.subarray(0, end);
  return text.length > 0 && text.length <= MAX_BANNER ? text : undefined;
}

/**
 * The same as a kernel's own symbol table, so that there is one form of symbols. The letter of each is nm's for a
 * symbol of unknown kind.
 *
 * @param kaslrOffset how far the image was moved, in bytes; per-CPU and absolute symbols stay where they are
 */
export function kallsymsOfLinked({ names, addresses }: LinkedSymbols, kaslrOffset: number): KallsymsParts {
  const moved = addresses.map((address) => (address >= START_KERNEL_MAP ? address + BigInt(kaslrOffset) : address));
  // The file has them by name.
  const order = Uint32Array.from(names.keys()).sort((a, b) => compare(moved[a]!, moved[b]!) || a - b);
  const offsets = Buffer.alloc(order.length * 8);
  const entries = Buffer.alloc(names.reduce((sum, name) => sum + name.length + 3, 0));
  let end = 0;
  order.forEach((symbol, i) => {
    offsets.writeBigUInt64LE(moved[symbol]!, i * 8);
    const name = names[symbol]!;
    const length = name.length + 1;
    if (length >= SHORT_LENGTH) entries[end++] = (length & 0x7f) | 0x80;
    entries[end++] = length >= SHORT_LENGTH ? length >> 7 : length;
    end += entries.write(`?${name}`, end, "latin1");
  });
  return { names: entries.subarray(0, end), ...plainTokens(), offsets, ...noBase, count: order.length };
}

const noBase = { offsetsAddress: 0n, relativeBase: undefined } as const;

/** Every byte stands for itself. */
function plainTokens(): Pick<KallsymsParts, "tokenTable" | "tokenIndex"> {
  const tokenTable = Buffer.alloc(512);
  const tokenIndex = Buffer.alloc(512);
  for (let token = 0; token < 256; token++) {
    tokenTable[token * 2] = token;
    tokenIndex.writeUInt16LE(token * 2, token * 2);
  }
  return { tokenTable, tokenIndex };
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
