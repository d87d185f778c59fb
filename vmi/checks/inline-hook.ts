import { formatHalves, type Halves } from "../bytes/address.ts";
import { ftraceSites } from "../linux/ftrace-sites.ts";
import { describeAddress } from "../linux/kernel-address.ts";
import { plus, sameAddress } from "../linux/read.ts";
import { symbol } from "../symbols/specs.ts";
import { type CheckContext, defineCheck } from "./check.ts";
import { codeOwner, isTracer } from "./code-owner.ts";
import { detourOf, isTracerNop, landing, TRACER_NOP } from "./detour.ts";
import { probedPlaces } from "./probed-places.ts";

/**
 * Functions that the tracer has no place in, and that are worth the most: every system call, exception and interrupt comes
 * by them (arch/x86/entry/).
 */
const untraced = [
  "entry_SYSCALL_64",
  "entry_SYSCALL_64_after_hwframe",
  "do_syscall_64",
  "x64_sys_call",
  "entry_SYSCALL_compat",
  "entry_INT80_compat",
  "do_int80_syscall_32",
  "do_fast_syscall_32",
  "ia32_sys_call",
  "asm_exc_page_fault",
  "exc_page_fault",
  "asm_exc_int3",
  "exc_int3",
  "asm_exc_debug",
  "exc_debug",
].map((name) => ({ name, spec: symbol(`?${name}`) }));

/** Bytes that are shown, and looked at. */
const SHOWN = 16;
/** From a function's start to the tracer's place, at most: behind ENDBR. */
const BEFORE = 4;
const MAX_REPORTED = 200;

export const inlineHook = defineCheck({
  name: "inline-hook",
  severity: "critical",
  cost: "walk",
  compares:
    "The beginning of every function that can be traced, the kernel's and those of modules (some 40,000), where there is " +
    "either nothing to do (a nop of five bytes, of which there are two until 5.12) or a call of the function tracer, of a " +
    "trampoline of ftrace, or of BPF, which the kernel itself has in its lists. A jump, a call elsewhere, a push and return, " +
    "or other code there was written over the function. And the first instructions of the code by which system calls and " +
    "exceptions enter, which may have a breakpoint only where a kprobe is registered.",
  misses:
    "A change further inside of a function, or of one that is not traced (kernel-text finds those, given the kernel's image); " +
    "a function whose record was taken from the tracer's list; a hook that uses ftrace or kprobes properly " +
    "(ftrace-hooks, kprobe-hooks).",
  confirm:
    "Disassemble the bytes at the address, and compare with the function in the kernel's image, or on another machine " +
    "with this kernel.",
  reads: ["ftrace_pages_start", "ftrace_page", "dyn_ftrace", "kprobe_table", "bpf_kallsyms", "ftrace_ops_list"],
  look: (context) => {
    traced(context);
    for (const { name, spec } of untraced) {
      const at = context.kernel.optionalPlace(spec);
      if (at !== undefined) entry(context, name, at);
    }
  },
});

function traced(context: CheckContext): void {
  const { kernel, budget } = context;
  const { space } = kernel;
  const sites = ftraceSites(kernel, budget);
  if (sites === undefined) context.incomplete("this kernel has no list of functions that can be traced");
  else if (!sites.complete)
    context.incomplete("the list of functions that can be traced could not be followed to its end");
  if (sites === undefined) return;
  const { hi, lo, count } = sites;
  let reported = 0;
  for (let i = 0; i < count; i++) {
    const index = space.borrow(hi[i]!, lo[i]!, TRACER_NOP.length);
    budget.spend();
    if (index < 0 || isTracerNop(kernel.memory.view, index)) continue;
    const at = { hi: hi[i]!, lo: lo[i]! };
    if (isTracing(context, at)) continue;
    if (reported === MAX_REPORTED) {
      context.incomplete(`more than ${MAX_REPORTED} functions begin with other code than they should`);
      return;
    }
    report(context, at);
    reported++;
  }
}

/** A call of what the tracer or BPF made, or a jump to it (bpf_dispatcher_xdp_func). */
function isTracing(context: CheckContext, at: Halves): boolean {
  const code = codeAt(context, at);
  const detour = code && detourOf(code, at);
  return detour?.length === 5 && detour.target !== undefined && isTracer(context, detour.target);
}

function report(context: CheckContext, site: Halves): void {
  const { kernel, budget } = context;
  const { symbol: name, module, offset } = describeAddress(kernel, site, budget);
  // From the function's own beginning where the tracer's place is behind ENDBR only.
  const at = offset > 0 && offset <= BEFORE ? plus(site, -offset) : site;
  const start = codeAt(context, at);
  const before = start && detourOf(start, at);
  // What was written begins at the function, or at the tracer's place.
  const [from, code] = before === undefined ? [site, codeAt(context, site)] : [at, start];
  const detour = before ?? (code && detourOf(code, from));
  const owner = detour?.target && codeOwner(context, detour.target);
  const leads = owner === undefined ? "other code" : `a ${detour?.how} to ${owner.text}`;
  const function_ = `${name ?? formatHalves(at.hi, at.lo)}${module === undefined ? "" : ` of module ${module}`}`;
  context.report({
    what: `${function_} begins with ${leads}`,
    where: `${function_} at ${formatHalves(from.hi, from.lo)}`,
    evidence: `${Buffer.from(code?.subarray(0, detour?.length ?? SHOWN) ?? []).toString("hex")} at ${formatHalves(from.hi, from.lo)}`,
    expected: `${TRACER_NOP.toString("hex")} (nop) at ${formatHalves(site.hi, site.lo)}, or a call of the function tracer`,
    identity: `${function_} ${owner?.name ?? "other code"}`,
    address: detour?.target ?? from,
    code: code && { at: from, found: code, ...(sameAddress(from, site) ? { original: TRACER_NOP } : {}) },
  });
}

function entry(context: CheckContext, name: string, at: Halves): void {
  const code = codeAt(context, at);
  const skipped = code === undefined ? 0 : landing(code);
  const from = plus(at, skipped);
  const first = skipped === 0 ? code : codeAt(context, from);
  const detour = first && detourOf(first, from);
  if (first === undefined || detour === undefined) return;
  const owner = detour.target && codeOwner(context, detour.target);
  // Their own code calls and jumps too, within the kernel.
  if (owner?.kind === "image" || (detour.how === "int3" && context.shared(probedPlaces).has(from.lo))) return;
  if (owner?.kind === "made") return;
  const leads = owner === undefined ? `a ${detour.how}` : `a ${detour.how} to ${owner.text}`;
  context.report({
    what: `${name} begins with ${leads}`,
    where: `${name} at ${formatHalves(from.hi, from.lo)}`,
    evidence: Buffer.from(first.subarray(0, detour.length)).toString("hex"),
    expected: "the function's own code",
    identity: `${name} ${owner?.name ?? detour.how}`,
    address: detour.target ?? from,
    code: { at: from, found: first },
  });
}

function codeAt({ kernel }: CheckContext, { hi, lo }: Halves): Uint8Array | undefined {
  const code = new Uint8Array(SHOWN);
  return kernel.space.read(hi, lo, code) === SHOWN ? code : undefined;
}
