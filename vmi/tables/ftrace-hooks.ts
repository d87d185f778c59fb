import { formatHalves } from "../bytes/address.ts";
import {
  ftraceOps,
  hashedFunctions,
  opsFlags,
  opsHashOf,
  type TraceInstance,
  traceInstances,
  walkFtraceOps,
} from "../linux/ftrace.ts";
import { describeAddress, symbolText } from "../linux/kernel-address.ts";
import { isNull, readPointer, sameAddress } from "../linux/read.ts";
import { pushCode } from "./code-cells.ts";
import { CELL } from "./columns.ts";
import { isWanted } from "./keys.ts";
import { defineTable, integer, text } from "./table.ts";

/** Of a hash with more functions than this only their number is told. */
const MAX_NAMED = 32;

/** One row an ftrace_ops: whom the kernel's functions call when they are traced. */
export const ftraceHooks = defineTable({
  name: "ftrace_hooks",
  description:
    "Who is called when functions of the kernel are: tracers, probes, live patches, BPF trampolines, rootkits",
  columns: {
    ops: text("Address of the struct ftrace_ops"),
    name: text("Symbol of the ops; absent for those made at run time"),
    instance: text("Instance of tracefs that they trace for: empty for its top; absent for all others"),
    function: text("What is called", { key: true }),
    symbol: text("Symbol of function", { key: true }),
    module: text("Module of function; absent for the kernel's image, and for code made at run time"),
    flags: text(
      "Words, separated by spaces: enabled, dynamic, save_regs, save_regs_if_supported, recursion (handles it itself; before 5.11, needs no help with it), stub, deleted, trampoline (may have one), ipmodify (may send the caller elsewhere), pid, rcu, permanent, direct (calls BPF trampolines and the like), subop",
    ),
    filtered: integer("Number of functions that they are limited to; 0: every function"),
    functions: text(
      `Names of those functions, sorted, separated by spaces; absent where there are none or over ${MAX_NAMED}`,
    ),
    left_out: integer("Number of functions that are left out"),
    trampoline: text("Code of their own that calls function"),
  },
  cost: "walk",
  atOnce: true,
  reads: [
    "ftrace_ops_list",
    "ftrace_ops",
    "ftrace_ops_hash",
    "ftrace_hash",
    "ftrace_func_entry",
    "ftrace_trace_arrays",
    "trace_array",
  ],
  examples: [
    "SELECT symbol, module, flags, functions FROM ftrace_hooks WHERE flags LIKE '%ipmodify%'",
    "SELECT name, symbol, functions FROM ftrace_hooks WHERE module IS NOT NULL",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const { space } = kernel;
    const layout = kernel.layout(ftraceOps);
    const list = walkFtraceOps(kernel, budget);
    if (!list.complete) context.incomplete("the list of ftrace_ops could not be followed to its end");
    const instances = out.instance ? traceInstances(kernel, budget) : [];
    const functions = context.textKeys("function");
    const symbols = context.textKeys("symbol");
    for (const at of list.found) {
      const called = readPointer(space, at, layout.func);
      if (functions && !isWanted(functions, called && formatHalves(called.hi, called.lo))) continue;
      if (symbols && !isWanted(symbols, called && symbolText(describeAddress(kernel, called, budget)))) continue;
      out.ops?.pushAddress(at.hi, at.lo);
      const own = out.name && describeAddress(kernel, at, budget);
      if (own?.symbol === undefined || own.offset !== 0) out.name?.absent(CELL.notApplicable);
      else out.name?.push(own.symbol);
      const instance = instances.find(({ ops }: TraceInstance) => sameAddress(ops, at));
      out.instance?.pushOr(instance?.name, CELL.notApplicable);
      pushCode(context, called, {
        address: out.function,
        symbol: out.symbol,
        module: out.module,
      });
      const flags = out.flags && opsFlags(kernel, at);
      if (flags === undefined) out.flags?.absent(CELL.unreadable);
      else out.flags?.push(flags);
      const state = layout.func_hash < 0 ? CELL.unsupported : CELL.unreadable;
      const filter = (out.filtered ?? out.functions) && opsHashOf(kernel, at, "filter_hash");
      out.filtered?.pushOr(filter?.count, state);
      if (out.functions !== undefined) {
        const few = filter !== undefined && filter.count > 0 && filter.count <= MAX_NAMED;
        const found = few ? hashedFunctions(kernel, filter, budget) : undefined;
        if (found === undefined)
          out.functions.absent(filter === undefined ? state : few ? CELL.torn : CELL.notApplicable);
        else
          out.functions.push(
            found
              .map((ip) => describeAddress(kernel, ip, budget).symbol ?? "?")
              .sort()
              .join(" "),
          );
      }
      out.left_out?.pushOr(out.left_out && opsHashOf(kernel, at, "notrace_hash")?.count, state);
      const trampoline = layout.trampoline < 0 ? undefined : readPointer(space, at, layout.trampoline);
      if (trampoline === undefined) out.trampoline?.absent(layout.trampoline < 0 ? CELL.unsupported : CELL.unreadable);
      else if (isNull(trampoline)) out.trampoline?.absent(CELL.notApplicable);
      else out.trampoline?.pushAddress(trampoline.hi, trampoline.lo);
      if (!context.row()) return;
    }
  },
});
