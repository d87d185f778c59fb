import { describeAddress } from "../linux/kernel-address.ts";
import {
  isReturnProbe,
  KPROBE_FLAGS,
  kprobe,
  kprobeEvent,
  kprobeFlags,
  returnProbeHandler,
  walkKprobes,
} from "../linux/kprobe.ts";
import { readNumber, readPointer, sameAddress } from "../linux/read.ts";
import { pushCode } from "./code-cells.ts";
import { CELL } from "./columns.ts";
import { isWanted } from "./keys.ts";
import { defineTable, integer, text } from "./table.ts";

/** One row a probe: /sys/kernel/debug/kprobes/list. */
export const kprobes = defineTable({
  name: "kprobes",
  description: "Probes in the kernel's code: who is called when the kernel comes by a place",
  columns: {
    address: text("Where in the code the probe is"),
    symbol: text("Function that is there", { key: true }),
    offset: integer("Bytes from its start"),
    module: text("Module that has the function; absent for the kernel's image"),
    type: text("k, or r for one that waits for a function's return (kretprobe)"),
    disabled: integer("1 when it is registered but not in effect"),
    optimized: integer("1 when it is a jump rather than a breakpoint"),
    ftrace: integer("1 when it is on a call of the function tracer"),
    gone: integer("1 when the code that it was in is gone, as that of a module that was unloaded"),
    aggregated: integer("1 when another probe stands for it in the table: several at one place, or optimised"),
    event: text("group:name of the event of tracefs that it serves (kprobe_events); absent for probes of others"),
    pre_handler: text("Called before the instruction"),
    pre_handler_symbol: text("Symbol of pre_handler"),
    pre_handler_module: text("Module of pre_handler; absent for the kernel's image, and for code made at run time"),
    post_handler: text("Called after the instruction"),
    post_handler_symbol: text("Symbol of post_handler"),
    return_handler: text("Called when the function returns, for type r"),
    return_handler_symbol: text("Symbol of return_handler"),
    missed: integer("Times that it was passed over, as another was running"),
    kprobe: text("Address of the struct kprobe"),
  },
  cost: "walk",
  atOnce: true,
  reads: [
    "kprobe_table",
    "kprobe",
    "kretprobe",
    "trace_kprobe and trace_probe_event (for event; from 5.4: 60d53e2c3b75)",
    "modules (for symbols)",
  ],
  examples: ["SELECT symbol, type, pre_handler_symbol, pre_handler_module FROM kprobes WHERE event IS NULL"],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const { space } = kernel;
    const layout = kernel.layout(kprobe);
    const wanted = context.textKeys("symbol");
    const walk = walkKprobes(kernel, budget, (probe) => {
      const { at } = probe;
      const address = readPointer(space, at, layout.addr);
      const place = address && (out.symbol ?? out.offset ?? out.module) && describeAddress(kernel, address, budget);
      if (!isWanted(wanted, place?.symbol)) return true;
      if (address === undefined) out.address?.absent(CELL.unreadable);
      else out.address?.pushAddress(address.hi, address.lo);
      const nowhere = address === undefined ? CELL.unreadable : CELL.notApplicable;
      if (place?.symbol === undefined) out.symbol?.absent(nowhere);
      else out.symbol?.push(place.symbol);
      if (place?.symbol === undefined) out.offset?.absent(nowhere);
      else out.offset?.push(place.offset);
      if (place?.module === undefined) out.module?.absent(nowhere);
      else out.module?.push(place.module);
      out.type?.push(isReturnProbe(kernel, at) ? "r" : "k");
      const flags = kprobeFlags(kernel, probe);
      const gone = flags && Number((flags.own & KPROBE_FLAGS.gone) !== 0);
      out.disabled?.pushOr(flags && Number(gone === 0 && (flags.own & KPROBE_FLAGS.disabled) !== 0), CELL.unreadable);
      out.optimized?.pushOr(flags && Number((flags.head & KPROBE_FLAGS.optimized) !== 0), CELL.unreadable);
      out.ftrace?.pushOr(flags && Number((flags.head & KPROBE_FLAGS.ftrace) !== 0), CELL.unreadable);
      out.gone?.pushOr(gone, CELL.unreadable);
      out.aggregated?.push(Number(!sameAddress(at, probe.head)));
      out.event?.pushOr(out.event && kprobeEvent(kernel, at), CELL.notApplicable);
      const wantsPre = out.pre_handler ?? out.pre_handler_symbol ?? out.pre_handler_module;
      pushCode(context, wantsPre && readPointer(space, at, layout.pre_handler), {
        address: out.pre_handler,
        symbol: out.pre_handler_symbol,
        module: out.pre_handler_module,
      });
      const wantsPost = out.post_handler ?? out.post_handler_symbol;
      pushCode(context, wantsPost && readPointer(space, at, layout.post_handler), {
        address: out.post_handler,
        symbol: out.post_handler_symbol,
      });
      pushCode(context, returnProbeHandler(kernel, at) ?? NONE, {
        address: out.return_handler,
        symbol: out.return_handler_symbol,
      });
      out.missed?.pushOr(readNumber(space, at, layout.nmissed), CELL.unreadable);
      out.kprobe?.pushAddress(at.hi, at.lo);
      return context.row();
    });
    context.retried(walk.retried);
    if (!walk.complete) context.incomplete("the table of kprobes could not be followed to its end");
  },
});

const NONE = { hi: 0, lo: 0 };
