import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import { symbol } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { plus } from "./read.ts";

/** arch/x86/kernel/idt.c: one table serves all CPUs (from 4.14; on x86-64 idt_table has always had this name). */
const idtTable = symbol("?idt_table");

/** 256 gates of 16 bytes (Intel SDM volume 3, 6.14.1 "64-Bit Mode IDT"). */
const VECTORS = 256;
const GATE_SIZE = 16;

export interface InterruptGate {
  readonly vector: number;
  readonly handler: Halves;
  /** Gate type: 14 for an interrupt gate, 15 for a trap gate. */
  readonly type: number;
  /** The least privileged ring that may raise it by an instruction. */
  readonly dpl: number;
  /** Index of the stack that it switches to, 0 for none: 1 double fault, 2 NMI, 3 debug, 4 machine check (IST_INDEX_* + 1). */
  readonly ist: number;
  readonly segment: number;
  readonly present: boolean;
}

/**
 * Undefined where the table can't be found or read.
 *
 * @param wanted vectors; undefined: all
 */
export function interruptGates(
  kernel: Kernel,
  wanted: ReadonlySet<number> | undefined,
  budget: Budget,
): { at: Halves; gates: InterruptGate[] } | undefined {
  const at = kernel.optionalPlace(idtTable);
  if (at === undefined) return undefined;
  const gates: InterruptGate[] = [];
  const bytes = Buffer.alloc(GATE_SIZE);
  for (let vector = 0; vector < VECTORS; vector++) {
    if (wanted?.has(vector) === false) continue;
    budget.spend();
    const gate = plus(at, vector * GATE_SIZE);
    if (kernel.space.read(gate.hi, gate.lo, bytes) !== GATE_SIZE) return undefined;
    gates.push(gateOf(bytes, vector));
  }
  return { at, gates };
}

function gateOf(bytes: Buffer, vector: number): InterruptGate {
  const low = bytes.readUInt16LE(0) | (bytes.readUInt16LE(6) << 16);
  const attributes = bytes[5]!;
  return {
    vector,
    handler: { hi: bytes.readInt32LE(8), lo: low },
    segment: bytes.readUInt16LE(2),
    ist: bytes[4]! & 7,
    type: attributes & 0x1f,
    dpl: (attributes >>> 5) & 3,
    present: attributes >>> 7 === 1,
  };
}
