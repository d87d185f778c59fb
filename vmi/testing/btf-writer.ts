/** Writes BTF (include/uapi/linux/btf.h). Types refer to one another by id, in the order in which they were added. */

const MAGIC = 0xeb9f;
const HEADER = 24;

export interface TypeRef {
  readonly id: number;
  /** Bytes. */
  readonly size: number;
  /** Bytes; its size, at most 8, when not given. */
  readonly align?: number;
}

export interface BtfMember {
  readonly name: string;
  readonly type: number;
  /** Bits from the start of the structure. */
  readonly bits: number;
  /** Bits, for a bit field. */
  readonly width?: number;
}

export class BtfWriter {
  readonly #types: Uint8Array[] = [];
  #strings = "\0";
  readonly #known = new Map<string, number>();

  int(name: string, size: number): TypeRef {
    return this.#sized(this.raw(name, 1, 0, size, [size * 8]), size);
  }

  pointer(to = 0): TypeRef {
    return this.#sized(this.raw("", 2, 0, to), 8);
  }

  array(of: TypeRef, count: number): TypeRef {
    const align = of.align ?? of.size;
    return { id: this.raw("", 3, 0, 0, [of.id, of.id, count]), size: of.size * count, align };
  }

  struct(name: string, size: number, members: readonly BtfMember[], kind = 4): TypeRef {
    const bitFields = members.some(({ width }) => width !== undefined);
    const words = members.flatMap(({ name, type, bits, width = 0 }) => [
      this.#string(name),
      type,
      bitFields ? (width << 24) | bits : bits,
    ]);
    return this.#sized(this.raw(name, kind, members.length, size, words, bitFields), size);
  }

  union(name: string, size: number, members: readonly BtfMember[]): TypeRef {
    return this.struct(name, size, members, 5);
  }

  typedef(name: string, of: TypeRef): TypeRef {
    return { ...of, id: this.raw(name, 8, 0, of.id) };
  }

  /** kind: 9 volatile, 10 const, 11 restrict, 18 type tag. */
  qualified(kind: 9 | 10 | 11 | 18, of: TypeRef): TypeRef {
    return { ...of, id: this.raw("", kind, 0, of.id) };
  }

  /** Any type: returns its id. `third` is the size or the type referred to. */
  raw(name: string, kind: number, vlen: number, third: number, words: readonly number[] = [], flag = false): number {
    const info = (((flag ? 1 : 0) << 31) | (kind << 24) | vlen) >>> 0;
    this.#types.push(littleEndian([this.#string(name), info, third, ...words]));
    return this.#types.length;
  }

  /** @param headerLength longer than the 24 bytes of today, for headers of later kernels */
  bytes(headerLength = HEADER): Uint8Array {
    const types = Buffer.concat(this.#types);
    const strings = Buffer.from(this.#strings, "latin1");
    const header = Buffer.alloc(headerLength);
    header.writeUInt16LE(MAGIC, 0);
    header[2] = 1;
    header.set(littleEndian([headerLength, 0, types.length, types.length, strings.length]), 4);
    return Buffer.concat([header, types, strings]);
  }

  #sized(id: number, size: number): TypeRef {
    return { id, size };
  }

  #string(text: string): number {
    if (text === "") return 0;
    const known = this.#known.get(text);
    if (known !== undefined) return known;
    const at = this.#strings.length;
    this.#known.set(text, at);
    this.#strings += `${text}\0`;
    return at;
  }
}

function littleEndian(words: readonly number[]): Uint8Array {
  const bytes = Buffer.alloc(words.length * 4);
  words.forEach((word, i) => {
    bytes.writeUInt32LE(word >>> 0, i * 4);
  });
  return bytes;
}
