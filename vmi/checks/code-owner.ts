import { formatHalves, type Halves, numberOf } from "../bytes/address.ts";
import { describeAddress, symbolText } from "../linux/kernel-address.ts";
import { walkMadeCode } from "../linux/made-code.ts";
import { kernelModules } from "../tables/kernel-modules.ts";
import type { CheckContext, Severity } from "./check.ts";

/**
 * Whose code it is that the kernel would run at an address:
 * - image: the kernel's own text;
 * - module: of a module that came with the kernel, as far as its taints say so;
 * - foreign: of a module that is from out of its tree, unsigned, proprietary or loaded by force;
 * - made: what the kernel makes itself and keeps lists of: BPF programs and trampolines, ftrace's trampolines, slots of
 *   probes;
 * - nobody: none of these. Code of a module that hides itself, or that was written into memory of no code;
 * - data: the kernel's own data, or a module's, which is never called.
 */
export type OwnerKind = "image" | "module" | "foreign" | "made" | "nobody" | "data";

export interface CodeOwner {
  readonly kind: OwnerKind;
  /** "lab_kill of module lab_tricks (taints OE)": for people. */
  readonly text: string;
  /** As `text`, with nothing that changes from boot to boot: for identities. */
  readonly name: string;
}

/** For `misses` of the checks that go by it. */
export const TAINTS_ARE_TRUSTED =
  "A module that cleared its own taints passes for one that came with the kernel: tainted-module looks for that, as far as it can.";

/** Letters of struct module's taints that tell a module from those that came with the kernel, but for E. */
const FOREIGN = /[PFO]/;

/**
 * How bad it is that such code is called by what is changed by registering: a hook, a notifier, a timer, a thread.
 * Undefined for what belongs there.
 */
export function callbackSeverity(owner: CodeOwner, foreign: Severity): Severity | undefined {
  switch (owner.kind) {
    case "image":
    case "module":
    case "made":
      return undefined;
    case "foreign":
      return foreign;
    case "nobody":
    case "data":
      return "critical";
  }
}

/** Whose the code at an address is. */
export function codeOwner(context: CheckContext, at: Halves): CodeOwner {
  const { kernel, budget } = context;
  const described = describeAddress(kernel, at, budget);
  const address = formatHalves(at.hi, at.lo);
  const symbol = symbolText(described);
  if (described.module !== undefined) {
    const { module } = described;
    const name = `${symbol ?? "code"} of module ${module}`;
    if (!described.text) return { kind: "data", text: `${name}, which is data`, name };
    const taints = context.shared(foreignModules).get(module);
    if (taints === undefined) return { kind: "module", text: name, name };
    return { kind: "foreign", text: `${name} (taints ${taints})`, name };
  }
  if (described.text) return { kind: "image", text: symbol ?? address, name: symbol ?? "the kernel's text" };
  if (symbol !== undefined) return { kind: "data", text: `${symbol}, which is data`, name: symbol };
  const made = madeAt(context, at);
  if (made !== undefined) return { kind: "made", text: `${made} at ${address}`, name: made };
  return { kind: "nobody", text: `${address}, which is in no module`, name: "code in no module" };
}

/** What the tracer's own code is called, which is called where a function is traced (arch/x86/kernel/ftrace_64.S). */
const TRACER = /^(__fentry__|ftrace_\w+)$/;

/** Whether a function may begin with a call of what is there, or a jump to it: the tracer's code, or what it or BPF made. */
export function isTracer(context: CheckContext, at: Halves): boolean {
  const owner = codeOwner(context, at);
  return owner.kind === "made" || (owner.kind === "image" && TRACER.test(owner.name));
}

/**
 * Modules that did not come with the kernel, with their taints. Where most modules are unsigned, that says nothing: so it
 * is with kernels that their users build.
 */
function foreignModules(context: CheckContext): ReadonlyMap<string, string> {
  const rows = context.rows(kernelModules, { columns: ["name", "taints"] });
  const modules = rows.map(({ name, taints }) => ({ name: String(name), taints: String(taints ?? "") }));
  const unsigned = modules.filter(({ taints }) => taints.includes("E")).length;
  const signedIsUsual = unsigned <= 2 || unsigned * 2 < modules.length;
  const foreign = modules.filter(({ taints }) => FOREIGN.test(taints) || (signedIsUsual && taints.includes("E")));
  return new Map(foreign.map(({ name, taints }) => [name, taints]));
}

/** What the kernel made at an address; undefined for nothing. */
function madeAt(context: CheckContext, { hi, lo }: Halves): string | undefined {
  const pieces = context.shared(madeCode);
  const address = numberOf(hi & 0x1f_ffff, lo);
  return pieces.find(({ start, end }) => address >= start && address < end)?.what;
}

const WORDS = { bpf: "BPF code", ftrace: "a trampoline of ftrace", kprobe: "a slot of a kprobe" } as const;

function madeCode(context: CheckContext): { start: number; end: number; what: string }[] {
  const { pieces, complete } = walkMadeCode(context.kernel, context.budget);
  if (!complete) context.incomplete("the lists of code that the kernel made could not be followed to their end");
  return pieces.map(({ maker, name, start, size }) => {
    // Exact below 2^53 only, but kernel addresses that differ there differ lower too.
    const from = numberOf(start.hi & 0x1f_ffff, start.lo);
    return { start: from, end: from + size, what: name === "" ? WORDS[maker] : `${WORDS[maker]} ${name}` };
  });
}
