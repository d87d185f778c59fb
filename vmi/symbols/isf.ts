import { damaged, recordOf, Scanner } from "./isf-scanner.ts";

/**
 * Volatility's symbol files (ISF: JSON with `base_types`, `enums` and `user_types`), made into BTF, so that the rest of the
 * engine knows one form of types. They are tens of megabytes: each type is cut out of the text and parsed alone. Their
 * symbols are read by isf-symbols.ts.
 */

interface IsfType {
  readonly kind?: unknown;
  readonly name?: unknown;
  readonly count?: unknown;
  readonly subtype?: unknown;
  readonly type?: unknown;
  readonly bit_length?: unknown;
  readonly bit_position?: unknown;
}

const SECTIONS = ["base_types", "enums", "user_types"] as const;
type Section = (typeof SECTIONS)[number];

/** Types, and types within types; more is not believed. */
const MAX_TYPES = 1 << 20;
const MAX_DEPTH = 32;
const MAX_VLEN = 0xffff;

const BTF = { INT: 1, PTR: 2, ARRAY: 3, STRUCT: 4, UNION: 5, ENUM: 6, FWD: 7, FUNC_PROTO: 13, ENUM64: 19 } as const;
const MAGIC = 0xeb9f;
const HEADER = 24;

/** BTF bytes with the types of an ISF. Throws GuestError "bad-request" when it is none. */
export function btfOfIsf(text: Uint8Array): Uint8Array {
  const ids = new Map<string, number>();
  eachType(text, (section, name, scanner) => {
    scanner.skip();
    if (ids.size >= MAX_TYPES) throw damaged();
    ids.set(`${section} ${name}`, ids.size + 1);
  });
  if (ids.size === 0) throw damaged();
  const writer = new Writer(ids);
  const seen = new Set<string>();
  eachType(text, (section, name, scanner) => {
    // A name that is there twice has one id: what stands first counts.
    const key = `${section} ${name}`;
    if (seen.has(key)) return scanner.skip();
    seen.add(key);
    const value = recordOf(scanner.value());
    if (section === "base_types") writer.base(name, value);
    else if (section === "enums") writer.enumeration(name, value);
    else writer.structure(name, value);
  });
  return writer.bytes();
}

/** Calls `visit` with the scanner before each type, which it has to pass. */
function eachType(text: Uint8Array, visit: (section: Section, name: string, scanner: Scanner) => void): void {
  const scanner = new Scanner(text);
  scanner.members((section) => {
    const known = SECTIONS.find((each) => each === section);
    if (known === undefined) return scanner.skip();
    scanner.members((name) => visit(known, name, scanner));
  });
}

class Writer {
  readonly #ids: ReadonlyMap<string, number>;
  readonly #named = new Words();
  readonly #derived = new Words();
  /** Ids of types without a name, by what they are. */
  readonly #known = new Map<string, number>();
  readonly #strings = new Map<string, number>();
  readonly #text: Uint8Array[] = [Uint8Array.of(0)];
  #textLength = 1;

  constructor(ids: ReadonlyMap<string, number>) {
    this.#ids = ids;
  }

  base(name: string, value: Record<string, unknown>): void {
    const size = integer(value.size, 0, 64);
    const called = value.kind === "bool" ? "_Bool" : name;
    const encoding = (value.signed === true ? 1 << 24 : 0) | ((size * 8) & 0xff);
    this.#named.push(this.#string(called), BTF.INT << 24, size, encoding);
  }

  enumeration(name: string, value: Record<string, unknown>): void {
    const constants = Object.entries(recordOf(value.constants)).slice(0, MAX_VLEN);
    const values = constants.map(([constant, number]) => ({ constant, number: wholeOf(number) }));
    const wide = values.some(({ number }) => number < -0x8000_0000n || number > 0xffff_ffffn);
    const signed = values.some(({ number }) => number < 0n) ? 0x8000_0000 : 0;
    const info = (signed | ((wide ? BTF.ENUM64 : BTF.ENUM) << 24) | values.length) >>> 0;
    this.#named.push(this.#string(tagOf(name)), info, integer(value.size, 0, 8));
    for (const { constant, number } of values) {
      const low = Number(BigInt.asUintN(32, number));
      this.#named.push(this.#string(constant), low);
      if (wide) this.#named.push(Number(BigInt.asUintN(32, number >> 32n)));
    }
  }

  structure(name: string, value: Record<string, unknown>): void {
    const fields = Object.entries(recordOf(value.fields))
      .slice(0, MAX_VLEN)
      .map(([field, each]) => this.#field(field, recordOf(each)))
      // They come in the order of their names.
      .sort((a, b) => a.bits - b.bits);
    const kind = value.kind === "union" ? BTF.UNION : BTF.STRUCT;
    const bitFields = fields.some(({ width }) => width > 0);
    const info = ((bitFields ? 0x8000_0000 : 0) | (kind << 24) | fields.length) >>> 0;
    this.#named.push(this.#string(tagOf(name)), info, integer(value.size, 0, 2 ** 31));
    for (const { field, type, bits, width } of fields)
      this.#named.push(field, type, bitFields ? ((width << 24) | bits) >>> 0 : bits);
  }

  #field(name: string, value: Record<string, unknown>): { field: number; type: number; bits: number; width: number } {
    const type = recordOf(value.type) as IsfType;
    const bitField = type.kind === "bitfield";
    const width = bitField ? integer(type.bit_length, 0, 64) : 0;
    const bits = integer(value.offset, 0, 2 ** 20) * 8 + (bitField ? integer(type.bit_position, 0, 64) : 0);
    const held = bitField ? recordOf(type.type) : type;
    return { field: this.#string(value.anonymous === true ? "" : name), type: this.#idOf(held, 0), bits, width };
  }

  #idOf(type: IsfType, depth: number): number {
    if (depth > MAX_DEPTH) return 0;
    const name = typeof type.name === "string" ? type.name : "";
    const within = () => this.#idOf(recordOf(type.subtype) as IsfType, depth + 1);
    switch (type.kind) {
      case "base":
        return name === "void" ? 0 : (this.#ids.get(`base_types ${name}`) ?? 0);
      case "enum":
        return this.#ids.get(`enums ${name}`) ?? 0;
      case "struct":
      case "union":
      case "class":
        return (
          this.#ids.get(`user_types ${name}`) ??
          this.#derive(`forward ${name}`, this.#string(tagOf(name)), BTF.FWD << 24, 0)
        );
      case "pointer": {
        const to = within();
        return this.#derive(`pointer ${to}`, 0, BTF.PTR << 24, to);
      }
      case "array": {
        const of = within();
        const count = integer(type.count, 0, 2 ** 32 - 1);
        return this.#derive(`array ${of} ${count}`, 0, BTF.ARRAY << 24, 0, of, 0, count);
      }
      case "function":
        return this.#derive("function", 0, BTF.FUNC_PROTO << 24, 0);
      default:
        return 0;
    }
  }

  #derive(what: string, ...words: number[]): number {
    const known = this.#known.get(what);
    if (known !== undefined) return known;
    const id = this.#ids.size + this.#known.size + 1;
    if (id > MAX_TYPES) throw damaged();
    this.#known.set(what, id);
    this.#derived.push(...words);
    return id;
  }

  #string(text: string): number {
    if (text === "") return 0;
    const known = this.#strings.get(text);
    if (known !== undefined) return known;
    const at = this.#textLength;
    const bytes = Buffer.from(`${text.replaceAll("\0", "")}\0`);
    this.#strings.set(text, at);
    this.#text.push(bytes);
    this.#textLength += bytes.length;
    return at;
  }

  bytes(): Uint8Array {
    const types = Buffer.concat([this.#named.bytes(), this.#derived.bytes()]);
    const header = Buffer.alloc(HEADER);
    header.writeUInt16LE(MAGIC, 0);
    header[2] = 1;
    for (const [i, word] of [HEADER, 0, types.length, types.length, this.#textLength].entries())
      header.writeUInt32LE(word, 4 + i * 4);
    return Buffer.concat([header, types, ...this.#text]);
  }
}

/** Words that become bytes, little endian. */
class Words {
  #buffer = Buffer.alloc(1 << 16);
  #length = 0;

  push(...words: readonly number[]): void {
    if (this.#length + words.length * 4 > this.#buffer.length) {
      const larger = Buffer.alloc(this.#buffer.length * 2);
      larger.set(this.#buffer);
      this.#buffer = larger;
    }
    for (const word of words) this.#length = this.#buffer.writeUInt32LE(word >>> 0, this.#length);
  }

  bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.#length);
  }
}

/** Debug information gives types without a name one of its own. */
const tagOf = (name: string) => (name.startsWith("unnamed_") ? "" : name);

function integer(value: unknown, low: number, high: number): number {
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= low && value <= high) return value;
  throw damaged();
}

/** A constant: beyond 2^53 what JSON's numbers leave of it. */
function wholeOf(value: unknown): bigint {
  if (typeof value === "number" && Number.isInteger(value) && Math.abs(value) <= 2 ** 64) return BigInt(value);
  throw damaged();
}
