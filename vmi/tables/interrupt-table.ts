import { GuestError } from "../errors.ts";
import { interruptGates } from "../linux/interrupts.ts";
import { plus } from "../linux/read.ts";
import { functionColumns, pushFunction } from "./function-columns.ts";
import { defineTable, integer, text } from "./table.ts";

/** The processor's gate types that 64-bit mode has. */
const TYPES: Readonly<Record<number, string>> = { 14: "interrupt", 15: "trap" };

/** One row an entry of the interrupt descriptor table. */
export const interruptTable = defineTable({
  name: "interrupt_table",
  description:
    "The interrupt descriptor table: what the processor calls for each exception and interrupt. Exceptions that Linux " +
    "has no handler for keep the one from its start (early_idt_handler_array), whose memory is freed then",
  columns: {
    vector: integer("Number of the exception or interrupt, 0 to 255", { key: true }),
    address: text("Address of the handler"),
    ...functionColumns("the handler"),
    type: text("interrupt or trap; otherwise the gate's type as a number"),
    dpl: integer("The least privileged ring that may raise it by an instruction: 3 for int3, into and int 0x80"),
    ist: integer("Number of the interrupt stack that it switches to, from 1; 0 for none"),
    present: integer("1 when the gate is in use, else 0"),
    segment: integer("Selector of the code segment: 16 is the kernel's"),
    entry: text("Address of the entry itself"),
  },
  cost: "constant",
  reads: ["idt_table (all versions on x86-64)"],
  examples: [
    "SELECT vector, address, symbol, module FROM interrupt_table WHERE present = 1 AND (module IS NULL OR module <> '')",
    "SELECT vector, symbol FROM interrupt_table WHERE dpl = 3",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const table = interruptGates(kernel, context.keys("vector"), budget);
    if (table === undefined) {
      throw new GuestError("unsupported-kernel", `the interrupt table of ${kernel.release} (idt_table) can't be read`);
    }
    for (const { vector, handler, type, dpl, ist, present, segment } of table.gates) {
      out.vector?.push(vector);
      out.address?.pushAddress(handler.hi, handler.lo);
      pushFunction(out, kernel, handler, budget);
      out.type?.push(TYPES[type] ?? String(type));
      out.dpl?.push(dpl);
      out.ist?.push(ist);
      out.present?.push(present ? 1 : 0);
      out.segment?.push(segment);
      if (out.entry !== undefined) {
        const at = plus(table.at, vector * 16);
        out.entry.pushAddress(at.hi, at.lo);
      }
      if (!context.row()) return;
    }
  },
});
