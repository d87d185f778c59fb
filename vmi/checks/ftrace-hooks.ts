import type { Halves } from "../bytes/address.ts";
import { formatHalves } from "../bytes/address.ts";
import { ftraceOps, hashedFunctions, opsFlags, opsHashOf, walkFtraceOps } from "../linux/ftrace.ts";
import { describeAddress, symbolText } from "../linux/kernel-address.ts";
import { isNull, readPointer } from "../linux/read.ts";
import { type CheckContext, defineCheck, type Severity } from "./check.ts";
import { callbackSeverity, codeOwner, TAINTS_ARE_TRUSTED } from "./code-owner.ts";

/** Functions that are named; of more only the number is told. */
const MAX_NAMED = 8;
/** As FTRACE_HASH_MAX_BITS has buckets: more is a tracer of everything. */
const MAX_LISTED = 4096;
/** The one at the end of the list, and those that only hold others (kernel/trace/ftrace.c, fgraph.c). */
const PASSIVE = new Set(["ftrace_list_end", "global_ops"]);

export const ftraceHooks = defineCheck({
  name: "ftrace-hooks",
  severity: "critical",
  cost: "walk",
  compares:
    "Who is registered with the function tracer (ftrace_ops_list), and whose the code is that each calls when one of the " +
    "kernel's functions is: a module that did not come with the kernel, or code in no module, is a hook that can change " +
    "what the function does. Tracing by the kernel itself (perf, tracefs, kprobes, BPF, live patches) is told as info.",
  misses:
    "What is not in the list, such as a call that was written into the place of a function without registering: " +
    "inline-hook and kernel-text find that. Of direct calls, fprobes and live patches only the kernel's own function is " +
    "judged that ftrace calls, not what that calls in turn: the trampoline, the handler, the new function. Probes of " +
    "tracepoints are judged by no check: the table tracepoints_attached has them. Monitoring software with a module of its " +
    "own uses ftrace too, and is reported with severity high; where its ops may send the caller elsewhere (ipmodify), critical. " +
    TAINTS_ARE_TRUSTED,
  confirm:
    "SELECT ops, symbol, module, flags, functions FROM ftrace_hooks; in the guest, which may lie, cat " +
    "/sys/kernel/tracing/enabled_functions.",
  reads: [
    "ftrace_ops_list",
    "ftrace_ops",
    "ftrace_ops_hash",
    "ftrace_hash",
    "ftrace_func_entry",
    "modules",
    "bpf_kallsyms",
  ],
  look: (context) => {
    const { kernel, budget } = context;
    const list = walkFtraceOps(kernel, budget);
    if (!list.complete) context.incomplete("the list of ftrace_ops could not be followed to its end");
    for (const ops of list.found) judge(context, ops);
  },
});

function judge(context: CheckContext, ops: Halves): void {
  const { kernel, budget } = context;
  const called = readPointer(kernel.space, ops, kernel.layout(ftraceOps).func);
  const own = describeAddress(kernel, ops, budget);
  if (called === undefined || isNull(called) || PASSIVE.has(own.symbol ?? "")) return;
  const owner = codeOwner(context, called);
  const flags = opsFlags(kernel, ops) ?? "";
  const severity: Severity = callbackSeverity(owner, flags.includes("ipmodify") ? "critical" : "high") ?? "info";
  const functions = tracedFunctions(context, ops);
  if (severity === "info" && functions.identity === "") return;
  context.report({
    what: `${functions.text} ${functions.several ? "are" : "is"} hooked by ftrace: ${owner.text}`,
    where: `ftrace_ops at ${formatHalves(ops.hi, ops.lo)}`,
    evidence: `${own.symbol === undefined ? "" : `${symbolText(own)}, `}calls ${formatHalves(called.hi, called.lo)}, flags ${flags || "none"}`,
    expected: "no ftrace_ops, or such as the kernel's own tracers have",
    identity: `${functions.identity} ${owner.name}`,
    severity,
    address: called,
  });
}

/** The functions that an ops is limited to, by name. Of those that trace nothing the identity is empty. */
function tracedFunctions(context: CheckContext, ops: Halves): { text: string; identity: string; several: boolean } {
  const { kernel, budget } = context;
  const filter = opsHashOf(kernel, ops, "filter_hash");
  if (filter === undefined || filter.count === 0) {
    // An ops with a filter that became empty is called for nothing; which of both it is the flags do not say.
    const enabled = opsFlags(kernel, ops)?.split(" ").includes("enabled") ?? true;
    return { text: "every function", identity: enabled ? "every function" : "", several: false };
  }
  const few = filter.count <= MAX_LISTED ? hashedFunctions(kernel, filter, budget) : undefined;
  const names = (few ?? []).map((ip) => describeAddress(kernel, ip, budget).symbol ?? "?").sort();
  if (names.length === 0 || names.length > MAX_NAMED) {
    const text = `${filter.count} functions${names.length === 0 ? "" : ` (${names.slice(0, MAX_NAMED).join(", ")}, ...)`}`;
    return { text, identity: names.length === 0 ? text : names.join(" "), several: true };
  }
  return { text: names.join(", "), identity: names.join(" "), several: names.length > 1 };
}
