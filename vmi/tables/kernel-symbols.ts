import { walkSymbols } from "../linux/kernel-symbols.ts";
import { CELL } from "./columns.ts";
import { defineTable, integer, text } from "./table.ts";

/** One row a symbol: /proc/kallsyms, without what is made at run time (BPF programs and trampolines). */
export const kernelSymbols = defineTable({
  name: "kernel_symbols",
  description: "Symbols of the kernel and its modules, in the order of /proc/kallsyms",
  columns: {
    name: text("Name; one name may have several symbols", { key: true }),
    address: text("Where it is; of a per-CPU variable before 6.15 its offset in each CPU's area"),
    type: text("nm's letter, capital where it is global or, of a module, exported to all; ? where a file was supplied"),
    module: text("Module that it belongs to; empty for the kernel itself", { key: true }),
    position: integer("Number in its symbol table: the kernel's own, or the module's"),
  },
  cost: "walk",
  reads: [
    "kallsyms_names, kallsyms_token_table, kallsyms_offsets (4.6 on: 2213e9a66bb8; place relative from 7.0: a081b5789255), kallsyms_addresses (before); VMCOREINFO says where from 6.0 (5fd8fea935a1, f09bddbd8661), before they are searched for",
    "modules",
    "module.kallsyms",
    "mod_kallsyms (typetab from 5.2: 1c7651f43777)",
    "kernel_symbol (32-bit distances: 7290d5809571)",
  ],
  examples: [
    "SELECT address, type, module FROM kernel_symbols WHERE name IN ('init_task', 'nf_hooks_needed')",
    "SELECT module, count(*) AS symbols FROM kernel_symbols GROUP BY module ORDER BY symbols DESC",
  ],
  generate: (context, out) => {
    const names = context.textKeys("name");
    const modules = context.textKeys("module");
    const walk = walkSymbols(context.kernel, names, modules, context.budget, (symbol) => {
      out.name?.push(symbol.name);
      out.address?.pushAddress(symbol.hi, symbol.lo);
      out.type?.push(symbol.type);
      out.module?.push(symbol.module ?? "");
      out.position?.pushOr(symbol.index, CELL.unreadable);
      return context.row();
    });
    context.retried(walk.retried);
    for (const note of walk.missing) context.incomplete(note);
  },
});
