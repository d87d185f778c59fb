import { formatHalves, type Halves } from "../bytes/address.ts";
import { type InterruptGate, interruptGates } from "../linux/interrupts.ts";
import type { Kernel } from "../linux/kernel.ts";
import { describeAddress, inKernelText } from "../linux/kernel-address.ts";
import { plus } from "../linux/read.ts";
import { symbol } from "../symbols/specs.ts";
import { type CheckContext, defineCheck } from "./check.ts";
import { codeOwner } from "./code-owner.ts";

/** arch/x86/kernel/vmlinux.lds.S: the code by which the kernel is entered, in a section of its own. */
const entryStart = symbol("?__entry_text_start");
const entryEnd = symbol("?__entry_text_end");

const GATE_SIZE = 16;
const EXCEPTIONS = 32;
/** What an exception that Linux has no handler for keeps from the kernel's start. */
const EARLY = "early_idt_handler_array";
/** int3, into, and int 0x80 (arch/x86/kernel/idt.c: SYSG and def_idts). */
const USER_VECTORS = new Set([3, 4, 0x80]);

export const interruptTable = defineCheck({
  name: "interrupt-table",
  severity: "critical",
  cost: "constant",
  compares:
    "The handler of each gate of the interrupt descriptor table with the bounds of the kernel's entry code, which is where " +
    "all of Linux's handlers begin; and the privilege of each gate: programs may raise int3, into and int 0x80 only.",
  misses:
    "The table that Linux made (idt_table) is looked at: a processor whose register was loaded with another one is not " +
    "seen. A gate that leads to another of Linux's own handlers is none of the findings, nor are changes to the handlers' " +
    "code: kernel-text has those.",
  confirm:
    "SELECT vector, address, symbol, module, dpl FROM interrupt_table WHERE present = 1; and disassemble what is at the " +
    "address.",
  reads: ["idt_table", "__entry_text_start and __entry_text_end"],
  look: (context) => {
    const table = interruptGates(context.kernel, undefined, context.budget);
    if (table === undefined) context.incomplete("this kernel's interrupt table (idt_table) can't be found");
    for (const gate of table?.gates ?? []) {
      if (!gate.present) continue;
      const at = plus(table!.at, gate.vector * GATE_SIZE);
      if (!isEntry(context, gate)) reportHandler(context, gate, at);
      if (gate.dpl === 3 && !USER_VECTORS.has(gate.vector)) reportPrivilege(context, gate, at);
    }
  },
});

function isEntry({ kernel, budget }: CheckContext, { handler, vector }: InterruptGate): boolean {
  const [start, end] = [kernel.optionalPlace(entryStart), kernel.optionalPlace(entryEnd)];
  const within =
    start === undefined || end === undefined
      ? inKernelText(kernel, handler)
      : handler.hi === start.hi && handler.lo >>> 0 >= start.lo >>> 0 && handler.lo >>> 0 < end.lo >>> 0;
  return within || (vector < EXCEPTIONS && isEarly(kernel, handler, budget));
}

function isEarly(kernel: Kernel, handler: Halves, budget: CheckContext["budget"]): boolean {
  return describeAddress(kernel, handler, budget).symbol === EARLY;
}

function reportHandler(context: CheckContext, { vector, handler, dpl }: InterruptGate, at: Halves): void {
  const owner = codeOwner(context, handler);
  context.report({
    what: `interrupt 0x${vector.toString(16)} goes to ${owner.text}`,
    where: `gate 0x${vector.toString(16)} at ${formatHalves(at.hi, at.lo)}`,
    evidence: `handler ${formatHalves(handler.hi, handler.lo)}, privilege ${dpl}`,
    expected: "a handler in the kernel's entry code",
    identity: `${vector} ${owner.name}`,
    address: handler,
  });
}

function reportPrivilege(context: CheckContext, { vector, handler }: InterruptGate, at: Halves): void {
  context.report({
    what: `programs may raise interrupt 0x${vector.toString(16)}`,
    where: `gate 0x${vector.toString(16)} at ${formatHalves(at.hi, at.lo)}`,
    evidence: `handler ${formatHalves(handler.hi, handler.lo)}, privilege 3`,
    expected: "privilege 0: programs raise int3, into and int 0x80 only",
    identity: `${vector} privilege`,
    address: handler,
  });
}
