import { type Halves, hiOf, loOf } from "../bytes/address.ts";
import { plus } from "../linux/read.ts";

/** How x86-64 code that was put before a function goes elsewhere, by its first bytes (Intel SDM volume 2). */
export interface Detour {
  /** "jmp", "call", "mov rax; jmp rax": for people. */
  readonly how: string;
  /** Undefined where the bytes do not tell it. */
  readonly target: Halves | undefined;
  /** Bytes of the instructions. */
  readonly length: number;
}

/** What code does that begins with a jump or the like; undefined for other code. */
export function detourOf(code: Uint8Array, at: Halves): Detour | undefined {
  const view = Buffer.from(code.buffer, code.byteOffset, code.byteLength);
  const relative = (from: number) => plus(at, from + 4 + view.readInt32LE(from));
  const [first, second] = code;
  if (code.length < 14) return undefined;
  if (first === 0xe9) return { how: "jmp", target: relative(1), length: 5 };
  if (first === 0xe8) return { how: "call", target: relative(1), length: 5 };
  if (first === 0xeb) return { how: "jmp", target: plus(at, 2 + view.readInt8(1)), length: 2 };
  if (first === 0xcc) return { how: "int3", target: undefined, length: 1 };
  // push imm32; ret: the value is extended with its sign.
  if (first === 0x68 && code[5] === 0xc3) {
    const lo = view.readInt32LE(1);
    return { how: "push; ret", target: { hi: lo >> 31, lo }, length: 6 };
  }
  // jmp *distance(%rip): where it goes is in memory.
  if (first === 0xff && second === 0x25) return { how: "jmp through memory", target: undefined, length: 6 };
  return registerDetour(view);
}

/** mov imm64 into a register, then jmp by it, or push it and return. */
function registerDetour(code: Buffer): Detour | undefined {
  const extended = code[0] === 0x49;
  if (!(extended || code[0] === 0x48) || (code[1]! & 0xf8) !== 0xb8) return undefined;
  const register = code[1]! & 7;
  const value = code.readBigUInt64LE(2);
  const target = { hi: hiOf(value), lo: loOf(value) };
  // The registers from r8 on take a prefix.
  const from = extended && code[10] === 0x41 ? 11 : 10;
  const [first, second] = code.subarray(from);
  const length = from + 2;
  if (first === 0xff && second === (0xe0 | register)) return { how: "mov; jmp", target, length };
  if (first === 0xff && second === (0xd0 | register)) return { how: "mov; call", target, length };
  if (first === (0x50 | register) && second === 0xc3) return { how: "mov; push; ret", target, length };
  return undefined;
}

/** What stands where the tracer's call can be: x86_nops[5]. */
export const TRACER_NOP = Buffer.from([0x0f, 0x1f, 0x44, 0x00, 0x00]);
const TRACER_NOP_LO = TRACER_NOP.readInt32LE(0);
/** Until 5.12 ("x86: Remove dynamic NOP selection") K8_NOP5_ATOMIC on many processors, by ideal_nops: 66 66 66 66 90. */
const K8_NOP_LO = 0x66666666;
const K8_NOP_LAST = 0x90;

/** Whether there is a no-operation of five bytes, as the function tracer leaves it. */
export function isTracerNop(view: DataView, index: number): boolean {
  const first = view.getInt32(index, true);
  if (first === TRACER_NOP_LO) return view.getUint8(index + 4) === 0;
  return first === K8_NOP_LO && view.getUint8(index + 4) === K8_NOP_LAST;
}

/** Bytes of ENDBR64, or of what takes its place where it is not needed (gen_endbr_poison), and of the tracer's nop. */
export function landing(code: Uint8Array): number {
  const start = Buffer.from(code.subarray(0, 4)).toString("hex");
  const endbr = ["f30f1efa", "660f1f00", "0f1f4000", "0f1f40d6"].includes(start) ? 4 : 0;
  const view = new DataView(code.buffer, code.byteOffset, code.byteLength);
  const nop = code.length >= endbr + TRACER_NOP.length && isTracerNop(view, endbr);
  return endbr + (nop ? TRACER_NOP.length : 0);
}
