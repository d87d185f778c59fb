import { GuestError } from "../errors.ts";
import type { CType, TypeSource } from "./type-model.ts";

/**
 * The kernel's own type information (include/uapi/linux/btf.h, Documentation/bpf/btf.rst), read where it lies.
 * One pass notes where each type begins; names and members are looked up in place.
 */

const MAGIC = 0xeb9f;

const KIND = {
  INT: 1,
  PTR: 2,
  ARRAY: 3,
  STRUCT: 4,
  UNION: 5,
  ENUM: 6,
  FWD: 7,
  TYPEDEF: 8,
  VOLATILE: 9,
  CONST: 10,
  RESTRICT: 11,
  FUNC: 12,
  FUNC_PROTO: 13,
  VAR: 14,
  DATASEC: 15,
  FLOAT: 16,
  DECL_TAG: 17,
  TYPE_TAG: 18,
  ENUM64: 19,
} as const;

const HEADER = 12;
/** Types within types that a member search may pass through. */
const MAX_DEPTH = 16;
/** Members that one search may look at: anonymous structures within one another could make it endless. */
const MAX_VISITS = 1 << 16;
/** No name of the kernel's is longer (KSYM_NAME_LEN). */
const MAX_NAME = 512;
const QUALIFIERS: Readonly<Record<number, "const" | "volatile" | "restrict" | "">> = {
  [KIND.CONST]: "const",
  [KIND.VOLATILE]: "volatile",
  [KIND.RESTRICT]: "restrict",
  [KIND.TYPE_TAG]: "",
};
const ENUM = "enum ";

/** The name of a type without the word that says what it is. */
function tagOf(name: string): string {
  return name.startsWith(ENUM) ? name.slice(ENUM.length) : name;
}

/** BTF_INT_SIGNED, in the upper byte of an integer's encoding. */
const INT_SIGNED = 1;

export interface Member {
  /** Bytes from the start of the outermost structure. */
  readonly offset: number;
  /** Bits from there, and how many; both zero unless it is a bit field. */
  readonly bitOffset: number;
  readonly bitSize: number;
  /** Bytes; 0 when unknown. */
  readonly size: number;
  readonly type: number;
}

export class Btf implements TypeSource {
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #typesEnd: number;
  readonly #strings: number;
  readonly #stringsEnd: number;
  /** Position of the type with id i + 1. */
  readonly #positions: Uint32Array;
  readonly #count: number;
  #visits = 0;

  /** @param bytes from the header on. Throws GuestError "unsupported-kernel" when it isn't BTF. */
  constructor(bytes: Uint8Array) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (bytes.length < 24 || view.getUint16(0, true) !== MAGIC) throw damaged();
    const base = view.getUint32(4, true);
    const types = base + view.getUint32(8, true);
    this.#typesEnd = types + view.getUint32(12, true);
    this.#strings = base + view.getUint32(16, true);
    this.#stringsEnd = this.#strings + view.getUint32(20, true);
    if (this.#typesEnd > bytes.length || this.#stringsEnd > bytes.length) throw damaged();
    this.#view = view;
    this.#bytes = bytes;
    this.#positions = new Uint32Array(((this.#typesEnd - types) / HEADER) | 0);
    this.#count = indexTypes(view, types, this.#typesEnd, this.#positions);
  }

  /** The ids of the first structure or union of each name, or of an enumeration where the name is `enum NAME`. */
  structs(names: readonly string[]): Map<string, number> {
    const wanted = new Map<number, string[]>();
    // No more of a name than this is looked at: it may have no end.
    const longest = Math.max(0, ...names.map(({ length }) => length)) + 1;
    for (const name of names) {
      const tag = tagOf(name);
      const hash = hashName(Buffer.from(`${tag}\0`, "latin1"), 0, tag.length);
      wanted.set(hash, [...(wanted.get(hash) ?? []), name]);
    }
    const found = new Map<string, number>();
    for (let id = 1; id <= this.#count && found.size < names.length; id++) {
      const position = this.#positions[id - 1]!;
      const kind = (this.#view.getUint32(position + 4, true) >>> 24) & 0x1f;
      if (kind !== KIND.STRUCT && kind !== KIND.UNION && kind !== KIND.ENUM) continue;
      const nameAt = this.#strings + this.#view.getUint32(position, true);
      if (nameAt >= this.#stringsEnd) continue;
      for (const name of wanted.get(hashName(this.#bytes, nameAt, longest)) ?? []) {
        const tag = tagOf(name);
        if ((tag === name) === (kind === KIND.ENUM) || found.has(name)) continue;
        if (this.#nameIs(nameAt, tag)) found.set(name, id);
      }
    }
    return found;
  }

  /** Ids are 1 to this. */
  get count(): number {
    return this.#count;
  }

  named(name: string): number[] {
    const ids: number[] = [];
    for (let id = 1; id <= this.#count; id++) {
      const position = this.#positions[id - 1]!;
      const kind = (this.#view.getUint32(position + 4, true) >>> 24) & 0x1f;
      // What functions and variables are called names no type.
      if (kind === KIND.FUNC || kind === KIND.VAR || kind === KIND.DATASEC || kind === KIND.DECL_TAG) continue;
      const nameAt = this.#strings + this.#view.getUint32(position, true);
      if (nameAt < this.#stringsEnd && this.#nameIs(nameAt, name)) ids.push(id);
    }
    return ids;
  }

  describe(id: number): CType | undefined {
    if (id === 0) return { kind: "void" };
    const position = this.#position(id);
    if (position === undefined) return undefined;
    const info = this.#view.getUint32(position + 4, true);
    const kind = (info >>> 24) & 0x1f;
    const flag = info >>> 31 === 1;
    const third = this.#view.getUint32(position + 8, true);
    const name = this.#nameAt(this.#view.getUint32(position, true));
    /** Entry i behind the header, of so many words. */
    const entries = (words: number) =>
      Array.from(
        { length: this.#entries(position, info & 0xffff, words) },
        (_, i) => position + HEADER + i * words * 4,
      );
    switch (kind) {
      case KIND.INT: {
        const encoding = (this.#word(position + HEADER) >>> 24) & 0xf;
        return { kind: "int", name, size: third, signed: (encoding & INT_SIGNED) !== 0 };
      }
      case KIND.FLOAT:
        return { kind: "float", name, size: third };
      case KIND.PTR:
        return { kind: "pointer", to: third };
      case KIND.ARRAY:
        return { kind: "array", of: this.#word(position + HEADER), count: this.#word(position + HEADER + 8) };
      case KIND.STRUCT:
      case KIND.UNION: {
        const fields = entries(3).map((at) => {
          const raw = this.#word(at + 8);
          const bits = flag ? raw & 0xff_ffff : raw;
          return { name: this.#nameAt(this.#word(at)), type: this.#word(at + 4), bits, width: flag ? raw >>> 24 : 0 };
        });
        return { kind: kind === KIND.STRUCT ? "struct" : "union", name, size: third, fields };
      }
      case KIND.ENUM:
      case KIND.ENUM64: {
        const wide = kind === KIND.ENUM64;
        const values = entries(wide ? 3 : 2).map((at) => {
          const value = BigInt(this.#word(at + 4)) | (wide ? BigInt(this.#word(at + 8)) << 32n : 0n);
          return { name: this.#nameAt(this.#word(at)), value: flag ? BigInt.asIntN(wide ? 64 : 32, value) : value };
        });
        return { kind: "enum", name, size: third, signed: flag, values };
      }
      case KIND.FWD:
        return { kind: "forward", name, word: flag ? "union" : "struct" };
      case KIND.TYPEDEF:
        return { kind: "typedef", name, to: third };
      case KIND.FUNC_PROTO:
        return { kind: "function", returns: third, parameters: entries(2).map((at) => this.#word(at + 4)) };
      default: {
        const word = QUALIFIERS[kind];
        return word === undefined ? undefined : { kind: "qualified", word, to: third };
      }
    }
  }

  /** How many of so many entries behind a type's header there really are. */
  #entries(position: number, count: number, words: number): number {
    return Math.max(0, Math.min(count, Math.floor((this.#typesEnd - position - HEADER) / (words * 4))));
  }

  #word(at: number): number {
    return at + 4 <= this.#bytes.length ? this.#view.getUint32(at, true) : 0;
  }

  #nameAt(offset: number): string {
    const at = this.#strings + offset;
    if (at >= this.#stringsEnd) return "";
    const bytes = this.#bytes.subarray(at, Math.min(at + MAX_NAME, this.#stringsEnd));
    const zero = bytes.indexOf(0);
    // C's own characters only: a name goes into texts.
    return Buffer.from(zero < 0 ? bytes : bytes.subarray(0, zero))
      .toString("latin1")
      .replaceAll(/[^\w$ .]/g, "?");
  }

  /** Bytes of a structure or union. */
  sizeOf(id: number): number {
    return this.#size(id, 0);
  }

  /**
   * The member that a dotted path names; a path goes through embedded structures, and through anonymous ones without
   * saying so. Undefined when there is no such member.
   */
  member(id: number, path: string): Member | undefined {
    let offset = 0;
    let at = id;
    let found: Member | undefined;
    this.#visits = 0;
    for (const name of path.split(".")) {
      found = this.#member(this.#resolve(at), name, 0);
      if (found === undefined) return undefined;
      offset += found.offset;
      at = found.type;
    }
    return found && { ...found, offset };
  }

  #member(id: number, name: string, depth: number): Member | undefined {
    const position = this.#position(id);
    if (position === undefined || depth > MAX_DEPTH) return undefined;
    const info = this.#view.getUint32(position + 4, true);
    const kind = (info >>> 24) & 0x1f;
    if (kind === KIND.ENUM) return this.#enumerator(position, name);
    if (kind !== KIND.STRUCT && kind !== KIND.UNION) return undefined;
    const bitFields = info >>> 31 === 1;
    const count = info & 0xffff;
    for (let i = 0; i < count; i++) {
      const at: number = position + HEADER + i * 12;
      if (at + 12 > this.#typesEnd || this.#visits++ > MAX_VISITS) return undefined;
      const nameAt = this.#strings + this.#view.getUint32(at, true);
      const type = this.#view.getUint32(at + 4, true);
      const raw = this.#view.getUint32(at + 8, true);
      const bits = bitFields ? raw & 0xff_ffff : raw;
      const bitSize = bitFields ? raw >>> 24 : 0;
      if (this.#bytes[nameAt] === 0) {
        const inner = this.#member(this.#resolve(type), name, depth + 1);
        if (inner !== undefined) return { ...inner, offset: inner.offset + (bits >>> 3) };
      } else if (this.#nameIs(nameAt, name)) {
        return { offset: bits >>> 3, bitOffset: bitSize > 0 ? bits & 7 : 0, bitSize, size: this.#size(type, 0), type };
      }
    }
    return undefined;
  }

  /** An enumerator as a member whose offset is its value. */
  #enumerator(position: number, name: string): Member | undefined {
    const count = this.#view.getUint32(position + 4, true) & 0xffff;
    for (let i = 0; i < count; i++) {
      const at = position + HEADER + i * 8;
      if (at + 8 > this.#typesEnd || this.#visits++ > MAX_VISITS) return undefined;
      if (this.#nameIs(this.#strings + this.#view.getUint32(at, true), name))
        return { offset: this.#view.getInt32(at + 4, true), bitOffset: 0, bitSize: 0, size: 0, type: 0 };
    }
    return undefined;
  }

  /** Past typedefs and qualifiers. */
  #resolve(id: number): number {
    for (let depth = 0; depth < MAX_DEPTH; depth++) {
      const position = this.#position(id);
      if (position === undefined) return 0;
      switch ((this.#view.getUint32(position + 4, true) >>> 24) & 0x1f) {
        case KIND.TYPEDEF:
        case KIND.VOLATILE:
        case KIND.CONST:
        case KIND.RESTRICT:
        case KIND.TYPE_TAG:
          id = this.#view.getUint32(position + 8, true);
          break;
        default:
          return id;
      }
    }
    return 0;
  }

  #size(id: number, depth: number): number {
    const resolved = this.#resolve(id);
    const position = this.#position(resolved);
    if (position === undefined || depth > MAX_DEPTH) return 0;
    switch ((this.#view.getUint32(position + 4, true) >>> 24) & 0x1f) {
      case KIND.PTR:
        return 8;
      case KIND.ARRAY:
        return (
          this.#size(this.#view.getUint32(position + HEADER, true), depth + 1) *
          this.#view.getUint32(position + HEADER + 8, true)
        );
      case KIND.INT:
      case KIND.STRUCT:
      case KIND.UNION:
      case KIND.ENUM:
      case KIND.ENUM64:
      case KIND.FLOAT:
        return this.#view.getUint32(position + 8, true);
      default:
        return 0;
    }
  }

  #position(id: number): number | undefined {
    return id >= 1 && id <= this.#count ? this.#positions[id - 1] : undefined;
  }

  #nameIs(at: number, name: string): boolean {
    for (let i = 0; i < name.length; i++) {
      if (this.#bytes[at + i] !== name.charCodeAt(i)) return false;
    }
    return this.#bytes[at + name.length] === 0;
  }
}

/** Notes where each type begins; returns how many there are. */
function indexTypes(view: DataView, start: number, end: number, positions: Uint32Array): number {
  let count = 0;
  let at = start;
  while (at + HEADER <= end) {
    positions[count++] = at;
    const info = view.getUint32(at + 4, true);
    at += HEADER + trailer((info >>> 24) & 0x1f, info & 0xffff);
  }
  return count;
}

/** Bytes behind a type's header. Throws GuestError on a kind that did not exist when this was written: its length is unknown. */
function trailer(kind: number, vlen: number): number {
  switch (kind) {
    case KIND.INT:
    case KIND.VAR:
    case KIND.DECL_TAG:
      return 4;
    case KIND.ARRAY:
      return 12;
    case KIND.STRUCT:
    case KIND.UNION:
    case KIND.DATASEC:
    case KIND.ENUM64:
      return vlen * 12;
    case KIND.ENUM:
    case KIND.FUNC_PROTO:
      return vlen * 8;
    case KIND.PTR:
    case KIND.FWD:
    case KIND.TYPEDEF:
    case KIND.VOLATILE:
    case KIND.CONST:
    case KIND.RESTRICT:
    case KIND.FUNC:
    case KIND.FLOAT:
    case KIND.TYPE_TAG:
      return 0;
    default:
      throw damaged();
  }
}

function hashName(bytes: Uint8Array, at: number, maximum: number): number {
  let hash = 0;
  const end = Math.min(bytes.length, at + maximum);
  for (let i = at; i < end && bytes[i] !== 0; i++) hash = (Math.imul(hash, 31) + bytes[i]!) | 0;
  return hash;
}

function damaged(): GuestError {
  return new GuestError(
    "unsupported-kernel",
    "the kernel's type information (BTF) is damaged or of an unknown version",
  );
}
