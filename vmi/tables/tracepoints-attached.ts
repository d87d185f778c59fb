import { describeAddress } from "../linux/kernel-address.ts";
import { eventOf, probeProgramId, probesOf, tracepointName, walkTracepoints } from "../linux/tracepoint.ts";
import { pushCode } from "./code-cells.ts";
import { CELL } from "./columns.ts";
import { isWanted } from "./keys.ts";
import { defineTable, integer, text } from "./table.ts";

/** What trace events (include/trace/trace_events.h) and raw tracepoints of BPF (include/trace/bpf_probe.h) name their probes. */
const EVENT_PROBE = "trace_event_raw_event_";
const BPF_PROBE = "__bpf_trace_";

/** One row a probe: who is called at a tracepoint. */
export const tracepointsAttached = defineTable({
  name: "tracepoints_attached",
  description: "Who is called at the kernel's tracepoints: events that are traced, BPF programs, modules",
  columns: {
    tracepoint: text("Name of the tracepoint", { key: true }),
    tracepoint_module: text("Module that has the tracepoint; absent for the kernel's image"),
    function: text("What is called"),
    symbol: text("Symbol of function"),
    module: text("Module of function; absent for the kernel's image, and for code made at run time"),
    data: text("What function is given of its own, an address"),
    priority: integer("Those of a higher one are called first"),
    event: text("system:name of the event of tracefs that is recorded (set_event); absent for other probes"),
    instance: text("Instance of tracefs that records it: empty for its top; absent for other probes"),
    program_id: integer("BPF program that a probe of a raw tracepoint runs; absent for other probes"),
    address: text("Address of the struct tracepoint"),
  },
  cost: "walk",
  atOnce: true,
  reads: [
    "__start___tracepoints_ptrs and __stop___tracepoints_ptrs (relative: from 4.19, 46e0c9be206f)",
    "tracepoint",
    "tracepoint_func",
    "modules and module",
    "trace_event_file, trace_event_call, trace_event_class, trace_array (for event)",
    "bpf_raw_tp_link (for program_id; from 6.10: d4dfc5700e86)",
  ],
  examples: [
    "SELECT tracepoint, symbol, module FROM tracepoints_attached WHERE event IS NULL",
    "SELECT t.tracepoint, p.name FROM tracepoints_attached t JOIN loaded_bpf_programs p ON p.vm = t.vm AND p.id = t.program_id",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const wantsKind = out.event ?? out.instance ?? out.program_id;
    const wanted = context.textKeys("tracepoint");
    const walk = walkTracepoints(kernel, budget, ({ at, module }) => {
      const probes = probesOf(kernel, at, budget);
      if (probes === undefined) context.incomplete("the probes of a tracepoint could not be read");
      if (probes === undefined || probes.length === 0) return true;
      const name = (out.tracepoint ?? out.event) && tracepointName(kernel, at);
      if (!isWanted(wanted, name)) return true;
      for (const { func, data, priority } of probes) {
        out.tracepoint?.pushOr(name, CELL.unreadable);
        out.tracepoint_module?.pushOr(module, CELL.notApplicable);
        pushCode(context, func, { address: out.function, symbol: out.symbol, module: out.module });
        out.data?.pushAddress(data.hi, data.lo);
        out.priority?.push(priority);
        const symbol = wantsKind && (describeAddress(kernel, func, budget).symbol ?? "");
        const event = symbol?.startsWith(EVENT_PROBE) ? eventOf(kernel, data) : undefined;
        out.event?.pushOr(event && name && Buffer.concat([event.system, COLON, name]), CELL.notApplicable);
        out.instance?.pushOr(event?.instance, CELL.notApplicable);
        if (symbol?.startsWith(BPF_PROBE)) out.program_id?.pushOr(probeProgramId(kernel, data), CELL.unreadable);
        else out.program_id?.absent(CELL.notApplicable);
        out.address?.pushAddress(at.hi, at.lo);
        if (!context.row()) return false;
      }
      return true;
    });
    context.retried(walk.retried);
    if (!walk.complete) context.incomplete("the tracepoints could not all be looked at");
  },
});

const COLON = Buffer.from(":");
