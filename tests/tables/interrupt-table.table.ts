// interrupt_table: the guest can't list it, so against /proc/kallsyms and what the architecture says of vectors.
import assert from "node:assert/strict";
import { read, textIn } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";

/** Some of the exceptions (Intel SDM volume 3, table 6-1), and Linux's own vectors (arch/x86/include/asm/irq_vectors.h). */
const handlers = new Map([
  [0, "asm_exc_divide_error"],
  [1, "asm_exc_debug"],
  [2, "asm_exc_nmi"],
  [3, "asm_exc_int3"],
  [6, "asm_exc_invalid_op"],
  [8, "asm_exc_double_fault"],
  [13, "asm_exc_general_protection"],
  [14, "asm_exc_page_fault"],
  [0xec, "asm_sysvec_apic_timer_interrupt"],
  [0xfd, "asm_sysvec_reschedule_ipi"],
  [0xff, "asm_sysvec_spurious_apic_interrupt"],
]);
/** Those that run on stacks of their own: double fault, NMI, debug (arch/x86/include/asm/page_64_types.h). */
const stacks = new Map([
  [8, 1],
  [2, 2],
  [1, 3],
]);

export const comparison: Comparison = {
  table: "interrupt_table",
  async compare(subject, guest) {
    const symbols = await subject.lab.kallsyms();
    const names = new Map<string, Set<string>>();
    for (const { address, name } of symbols) {
      const at = `0x${address.toString(16).padStart(16, "0")}`;
      names.set(at, (names.get(at) ?? new Set()).add(name));
    }
    const at = (name: string) => symbols.find((symbol) => symbol.name === name)!.address;
    const rows = read(guest, "interrupt_table");
    assert.equal(rows.length, 256);
    rows.forEach((row, vector) => {
      const { symbol, module, present, type, segment } = row;
      assert.equal(row.vector, vector);
      assert.equal(present, 1);
      assert.equal(type, "interrupt");
      assert.equal(segment, 16);
      const address = BigInt(textIn(row, "address"));
      // What the processor can't raise here keeps the handler from before the table was filled.
      const early = vector < 32 && textIn(row, "symbol").startsWith("early_idt_handler_array+");
      const [from, to] = early ? ["_sinittext", "_einittext"] : ["_stext", "_etext"];
      assert.ok(address >= at(from) && address < at(to), `${vector}: ${address}`);
      assert.equal(module, "");
      const [name, behind] = (symbol as string).split("+");
      // External interrupts and spurious ones have stubs of equal length behind one symbol.
      const start = BigInt(address) - BigInt(behind ?? 0);
      assert.ok(names.get(`0x${start.toString(16)}`)?.has(name!), `${vector}: ${symbol}`);
      if (behind !== undefined && !early)
        assert.ok(["irq_entries_start", "spurious_entries_start"].includes(name!), `${vector}: ${symbol}`);
    });
    for (const [vector, name] of handlers) assert.equal(rows[vector]!.symbol, name);
    for (const row of rows) assert.equal(row.ist, stacks.get(row.vector as number) ?? row.ist);
    assert.deepEqual(
      rows.filter(({ dpl }) => dpl === 3).map(({ vector }) => vector),
      [3, 4, 0x80],
    );
    const entry = BigInt(textIn(rows[0]!, "entry"));
    assert.equal(entry, at("idt_table"));
    return `${rows.length} rows`;
  },
};
