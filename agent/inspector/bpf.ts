/**
 * A small assembler for classic BPF as seccomp runs it.
 * Source: Documentation/userspace-api/seccomp_filter.rst and include/uapi/linux/{filter,seccomp}.h of Linux.
 */

/** `jump` targets are labels; a missing target falls through to the next instruction. */
type Instruction =
  | { readonly code: number; readonly k: number }
  | { readonly code: number; readonly k: number; readonly yes?: string; readonly no?: string }
  | { readonly label: string };

const LD_W_ABS = 0x20;
const LD_MEM = 0x60;
const LDX_MEM = 0x61;
const ST = 0x02;
const ADD_X = 0x0c;
const ADD_K = 0x04;
const TAX = 0x07;
const JEQ_K = 0x15;
const JGT_K = 0x25;
const JGE_K = 0x35;
const JGE_X = 0x3d;
const JSET_K = 0x45;
const JA = 0x05;
const RET_K = 0x06;

/** Offsets in struct seccomp_data, little endian. */
export const data = {
  number: 0,
  architecture: 4,
  low: (argument: number) => 16 + 8 * argument,
  high: (argument: number) => 20 + 8 * argument,
} as const;

/** Conditional jumps of BPF reach no farther than this. */
const farthest = 255;

export class Assembler {
  readonly #program: Instruction[] = [];
  #names = 0;

  /** A label that no other has. */
  fresh(): string {
    return `.${this.#names++}`;
  }
  label(label: string): this {
    this.#program.push({ label });
    return this;
  }
  /** A = the word of seccomp_data at `offset`. */
  load(offset: number): this {
    return this.#add(LD_W_ABS, offset);
  }
  store(slot: number): this {
    return this.#add(ST, slot);
  }
  recall(slot: number): this {
    return this.#add(LD_MEM, slot);
  }
  /** X = a scratch word. */
  recallX(slot: number): this {
    return this.#add(LDX_MEM, slot);
  }
  copyToX(): this {
    return this.#add(TAX, 0);
  }
  addX(): this {
    return this.#add(ADD_X, 0);
  }
  add(value: number): this {
    return this.#add(ADD_K, value);
  }
  ifEqual(value: number, yes?: string, no?: string): this {
    return this.#jump(JEQ_K, value, yes, no);
  }
  ifGreater(value: number, yes?: string, no?: string): this {
    return this.#jump(JGT_K, value, yes, no);
  }
  ifAtLeast(value: number, yes?: string, no?: string): this {
    return this.#jump(JGE_K, value, yes, no);
  }
  ifAtLeastX(yes?: string, no?: string): this {
    return this.#jump(JGE_X, 0, yes, no);
  }
  ifAny(bits: number, yes?: string, no?: string): this {
    return this.#jump(JSET_K, bits, yes, no);
  }
  goto(label: string): this {
    return this.#jump(JA, 0, label, undefined);
  }
  answer(value: number): this {
    return this.#add(RET_K, value);
  }

  #add(code: number, k: number): this {
    this.#program.push({ code, k: k >>> 0 });
    return this;
  }
  #jump(code: number, k: number, yes: string | undefined, no: string | undefined): this {
    this.#program.push({ code, k: k >>> 0, yes, no });
    return this;
  }

  /** The program as an array of struct sock_filter. Throws when a label is missing, behind, or too far. */
  assemble(): Buffer {
    const positions = new Map<string, number>();
    let count = 0;
    for (const item of this.#program) {
      if ("label" in item) positions.set(item.label, count);
      else count++;
    }
    const code = Buffer.alloc(count * 8);
    let at = 0;
    const distance = (label: string | undefined) => {
      if (label === undefined) return 0;
      const target = positions.get(label);
      const result = target === undefined ? -1 : target - at - 1;
      if (result < 0) throw new Error(`no label ${label} ahead of instruction ${at}`);
      return result;
    };
    for (const item of this.#program) {
      if ("label" in item) continue;
      const yes = "yes" in item ? distance(item.yes) : 0;
      const no = "no" in item ? distance(item.no) : 0;
      code.writeUInt16LE(item.code, at * 8);
      if (item.code === JA) {
        code.writeUInt32LE(yes, at * 8 + 4);
      } else {
        if (yes > farthest || no > farthest) throw new Error(`a jump of instruction ${at} is too far`);
        code.writeUInt8(yes, at * 8 + 2);
        code.writeUInt8(no, at * 8 + 3);
        code.writeUInt32LE(item.k, at * 8 + 4);
      }
      at++;
    }
    return code;
  }
}
