import { createCipheriv, createHash, randomBytes } from "node:crypto";
import type { Btf } from "./btf.ts";
import type { Kallsyms, SymbolPosition } from "./kallsyms.ts";
import { declaredStructs, declaredSymbols, type StructSpec, type SymbolSpec, symbol } from "./specs.ts";

/**
 * The answers to all declared structures and symbols for one kernel build: a few kilobytes, in place of the megabytes
 * of symbols and types, which stay in the guest. A profile carries a seal of the tables that it was made from, so one
 * that was made from other tables, or by a guest that lies about its build id, is never used.
 */
export interface Profile {
  readonly buildId: string;
  /** Of the kernel's type and symbol tables; see sealOf. */
  readonly seal: string;
  /** Of each declared structure: its size and its members' offsets; empty when the kernel lacks it. */
  readonly structs: readonly (readonly number[])[];
  /** Of each declared symbol: index and position in kallsyms; empty when the kernel lacks it. */
  readonly symbols: readonly (readonly number[])[];
  /** Bytes from _stext to the handler of interrupt 0 and to the pointer to VMCOREINFO's text; empty when unknown. */
  readonly noteHint: readonly number[];
  /** Bytes from _stext to where the symbol table was found; empty where VMCOREINFO tells, or a file has the symbols. */
  readonly symbolHint: readonly number[];
}

const stext = symbol("_stext");
/** From 5.8 (2bbc68f8373c), and before. */
const interruptHandlers = [symbol("?asm_exc_divide_error"), symbol("?divide_error")];
const vmcoreinfoData = symbol("?vmcoreinfo_data");

interface StoredProfile extends Profile {
  /** Which declarations it answers. */
  readonly declarations: string;
}

const KEY_BYTES = 32;
const NONCE = Buffer.alloc(12);

/**
 * A keyed hash of tables (GMAC, NIST SP 800-38D), key first, as hexadecimal digits: ten times faster than SHA-256, and
 * as good against a guest, which chooses its tables before there is a key and never sees one. Every seal has a key of
 * its own, so the nonce may be the same.
 */
export function sealOf(tables: readonly Uint8Array[], key = randomBytes(KEY_BYTES)): string {
  const cipher = createCipheriv("aes-256-gcm", key, NONCE);
  // Where one table ends and the next begins counts too.
  cipher.setAAD(Buffer.from(Float64Array.from(tables, (table) => table.length).buffer));
  for (const table of tables) cipher.setAAD(table);
  cipher.final();
  return Buffer.concat([key, cipher.getAuthTag()]).toString("hex");
}

/** True when the seal is of these tables. */
export function seals(seal: string, tables: readonly Uint8Array[]): boolean {
  const key = Buffer.from(seal, "hex").subarray(0, KEY_BYTES);
  return key.length === KEY_BYTES && sealOf(tables, key) === seal;
}

export function buildProfile(
  { buildId, seal, symbolHint }: Pick<Profile, "buildId" | "seal" | "symbolHint">,
  btf: Btf,
  kallsyms: Kallsyms,
): Profile {
  const ids = btf.structs([...new Set(declaredStructs().map((spec) => spec.name))]);
  const positions = kallsyms.find(declaredSymbols().map((spec) => spec.name));
  return {
    buildId,
    seal,
    structs: declaredStructs().map((spec) => {
      const id = ids.get(spec.name);
      return id === undefined ? [] : [btf.sizeOf(id), ...spec.members.map((member) => offsetOf(btf, id, member.paths))];
    }),
    symbols: declaredSymbols().map((spec) => {
      const found: SymbolPosition | undefined = positions.get(spec.name);
      return found === undefined ? [] : [found.index, found.position];
    }),
    noteHint: noteHint(positions, kallsyms),
    symbolHint,
  };
}

function noteHint(positions: ReadonlyMap<string, SymbolPosition>, kallsyms: Kallsyms): number[] {
  const addressOf = (spec: SymbolSpec) => {
    const position = positions.get(spec.name);
    return position && kallsyms.address(position.index);
  };
  const text = addressOf(stext);
  const handler = interruptHandlers.map(addressOf).find((address) => address !== undefined);
  const pointer = addressOf(vmcoreinfoData);
  if (text === undefined || handler === undefined || pointer === undefined) return [];
  return [Number(handler - text), Number(pointer - text)];
}

function offsetOf(btf: Btf, id: number, paths: StructSpec["members"][number]["paths"]): number {
  for (const path of paths) {
    const member = btf.member(id, path);
    if (member !== undefined) return member.offset;
  }
  return -1;
}

/** Where a profile says that a symbol's entry is; to be checked against the name there. */
export function symbolPosition(profile: Profile, spec: SymbolSpec): SymbolPosition | undefined {
  const [index, position] = profile.symbols[spec.id] ?? [];
  return index === undefined || position === undefined ? undefined : { index, position };
}

export function encodeProfile(profile: Profile): Uint8Array {
  const stored: StoredProfile = { declarations: declarationsDigest(), ...profile };
  return Buffer.from(JSON.stringify(stored));
}

/** Undefined when the bytes are no profile, or one that other declarations were made for. */
export function decodeProfile(bytes: Uint8Array): Profile | undefined {
  try {
    const stored = JSON.parse(Buffer.from(bytes).toString()) as Partial<StoredProfile>;
    const { buildId, seal, structs, symbols, noteHint, symbolHint } = stored;
    const fits =
      stored.declarations === declarationsDigest() &&
      typeof buildId === "string" &&
      typeof seal === "string" &&
      isNumbers(structs) &&
      isNumbers(symbols) &&
      isNumbers([noteHint, symbolHint]);
    return fits
      ? { buildId, seal, structs, symbols, noteHint: noteHint as number[], symbolHint: symbolHint as number[] }
      : undefined;
  } catch {
    return undefined;
  }
}

function isNumbers(value: unknown): value is number[][] {
  return (
    Array.isArray(value) && value.every((row) => Array.isArray(row) && row.every((item) => Number.isSafeInteger(item)))
  );
}

/** Does what attaching needs and no guest is needed for, so that the first guest does not wait for it. */
export function prepare(): void {
  declarationsDigest();
}

let declarations: string | undefined;

function declarationsDigest(): string {
  declarations ??= createHash("sha256")
    .update(JSON.stringify([declaredStructs(), declaredSymbols()]))
    .digest("hex");
  return declarations;
}
