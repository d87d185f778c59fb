import { formatHalves, type Halves, PAGE_SIZE } from "../bytes/address.ts";
import { compareText, type TextDifference } from "../kernel-file/compare-text.ts";
import type { TextReference } from "../kernel-file/text-reference.ts";
import { isExpectedChange, type TextPair } from "../kernel-file/verify-site.ts";
import { describeAddress, symbolText } from "../linux/kernel-address.ts";
import { kernelTextReference } from "../linux/kernel-text.ts";
import { symbol } from "../symbols/specs.ts";
import { type CheckContext, defineCheck } from "./check.ts";
import { codeOwner, isTracer } from "./code-owner.ts";
import { detourOf } from "./detour.ts";
import { probedPlaces } from "./probed-places.ts";

/** Calls within ftrace_caller and ftrace_regs_caller of whoever traces (arch/x86/kernel/ftrace_64.S). */
const tracerCalls = [symbol("?ftrace_call"), symbol("?ftrace_regs_call"), symbol("?ftrace_graph_call")];
/** Jumps that stand for functions of static calls (include/linux/static_call_types.h). */
const STATIC_TRAMPOLINE = "__SCT__";
const TRAMPOLINE_SIZE = 8;

const TOP = -1;
const CALL = 0xe8;
const JMP = 0xe9;
const INT3 = 0xcc;
const JUMP_SIZE = 5;
/** Bytes of code that are shown, at least where there are as many. */
const SHOWN = 16;
const MAX_SHOWN = 64;
const MAX_REPORTED = 200;
/** A page to be compared takes as long as so many elements of a list. */
const PAGE_COST = 8;

export const kernelText = defineCheck({
  name: "kernel-text",
  severity: "critical",
  cost: "scan",
  compares:
    "The kernel's whole text in memory with the image of the same build that the operator gives, byte by byte, moved to " +
    "where the guest's kernel is. Where the kernel changes its own text (alternatives, jump labels, static calls, places of " +
    "the function tracer, returns, indirect branches, locks, constants, kprobes), the tables that it was linked with say so, and " +
    "what is there has to be what the kernel makes of it: a jump label leads to its own label, a static call to the kernel or to " +
    "a module that came with it, a tracer's call to the tracer.",
  misses:
    "Without the image nothing is compared, and a line of severity info says so. Text of modules, and what serves only while the kernel starts, is not looked " +
    "at. A static call or jump label that was switched to another of its honest states is none of the findings, nor is a " +
    "change of constants that the kernel sets as it starts. Images packed with xz have to be unpacked first. Code that is " +
    "run from another mapping than the kernel's own (a changed page table) is not seen.",
  confirm:
    "Disassemble both: the bytes that were found, and those that the image has there (original_code of the finding); or " +
    "compare with the same address of another machine with this build.",
  reads: [
    "_text to _etext",
    "of the image: .text, .altinstructions, .retpoline_sites, .return_sites, .ibt_endbr_seal, .smp_locks, .parainstructions (until 6.8), runtime_* (from 6.12)",
    "__start_mcount_loc, __start___jump_table, __start_static_call_sites",
    "kprobe_table, bpf_kallsyms, ftrace_ops_list, modules",
  ],
  look: (context) => {
    const reference = kernelTextReference(context.kernel);
    if (typeof reference === "string") context.incomplete(reference);
    if (reference === undefined) reportNoImage(context);
    if (reference === undefined || typeof reference === "string") return;
    const { found, start } = reference;
    context.budget.spend((found.length / PAGE_SIZE) * PAGE_COST);
    const read = context.kernel.space.read(TOP, start | 0, found);
    if (read < found.length) {
      context.incomplete(`the kernel's text could be read up to ${formatHalves(TOP, (start + read) | 0)} only`);
      return;
    }
    const differences = compareText(reference, {
      mayCall: (address) => mayCall(context, reference, address),
      isTracer: (address) => isTracer(context, { hi: TOP, lo: address | 0 }),
      codeAt: (address, length) => {
        const code = new Uint8Array(length);
        return context.kernel.space.read(TOP, address | 0, code) === length ? code : undefined;
      },
      otherwise: (offset, text) => otherwise(context, offset, text),
    });
    if (differences.length > MAX_REPORTED) context.incomplete(`${differences.length} places of the text were changed`);
    for (const difference of differences.slice(0, MAX_REPORTED)) report(context, reference, difference);
  },
});

function reportNoImage({ kernel, report }: CheckContext): void {
  report({
    what: "the kernel's text was compared with nothing: no image of it was given",
    where: `Linux ${kernel.release}, build ${kernel.buildId}`,
    evidence: "no image",
    expected: "the vmlinuz of this build, from the operator",
    identity: "no image",
    severity: "info",
  });
}

function mayCall(context: CheckContext, { start, bytes }: TextReference, address: number): boolean {
  if (address >= start && address < start + bytes.length) return true;
  const { kind } = codeOwner(context, { hi: TOP, lo: address | 0 });
  return kind === "module" || kind === "made";
}

/** Bytes from an offset on that a registered probe accounts for, the tracer's own calls, or the function of a static call. */
function otherwise(context: CheckContext, offset: number, text: TextPair): number {
  const { kernel } = context;
  const address = (text.start + offset) >>> 0;
  const code = text.found.subarray(offset, offset + JUMP_SIZE);
  if (context.shared(probedPlaces).has(address | 0)) {
    if (code[0] === INT3) return 1;
    // An optimised one.
    const detour = code[0] === JMP ? (address + JUMP_SIZE + code.readInt32LE(1)) | 0 : undefined;
    if (detour !== undefined && codeOwner(context, { hi: TOP, lo: detour }).kind === "made") return JUMP_SIZE;
  }
  for (const spec of tracerCalls) {
    const from = offset - address + ((kernel.optionalPlace(spec)?.lo ?? 0) >>> 0);
    if (offset < from || offset >= from + JUMP_SIZE) continue;
    const own = text.found.subarray(from, from + JUMP_SIZE);
    const target = (text.start + from + JUMP_SIZE + own.readInt32LE(1)) >>> 0;
    if ((own[0] === CALL || own[0] === JMP) && text.mayCall(target)) return from + JUMP_SIZE - offset;
  }
  return staticTrampoline(context, offset, text);
}

/** One that no call is known to go by. */
function staticTrampoline({ kernel }: CheckContext, offset: number, text: TextPair): number {
  const address = (text.start + offset) >>> 0;
  const found = kernel.kallsyms.before((0xffff_ffffn << 32n) | BigInt(address));
  if (!found?.name.startsWith(STATIC_TRAMPOLINE)) return 0;
  const at = Number(found.address & 0xffff_ffffn);
  const length = TRAMPOLINE_SIZE;
  const site = { kind: "static-trampoline", at: at - text.moved, length, other: 0, otherLength: 0 } as const;
  return address < at + length && isExpectedChange(site, text) ? at + length - address : 0;
}

function report(context: CheckContext, { found, bytes, start }: TextReference, { from, to }: TextDifference): void {
  const { kernel, budget } = context;
  const at: Halves = { hi: TOP, lo: (start + from) | 0 };
  const described = describeAddress(kernel, at, budget);
  const place = symbolText(described) ?? formatHalves(at.hi, at.lo);
  const until = Math.min(found.length, from + Math.min(MAX_SHOWN, Math.max(SHOWN, to - from)));
  const code = Uint8Array.from(found.subarray(from, until));
  const original = Uint8Array.from(bytes.subarray(from, until));
  const detour = detourOf(code, at);
  const owner = detour?.target && codeOwner(context, detour.target);
  const leads = detour === undefined ? "" : `: ${detour.how}${owner === undefined ? "" : ` to ${owner.text}`}`;
  const count = to - from;
  context.report({
    what: `the kernel's text was changed at ${place}${leads}`,
    where: `${place} at ${formatHalves(at.hi, at.lo)}`,
    evidence: `${hex(code, count)}, ${count} ${count === 1 ? "byte" : "bytes"}`,
    expected: hex(original, count),
    identity: `${place} ${owner?.name ?? count}`,
    address: detour?.target ?? at,
    code: { at, found: code, original },
  });
}

function hex(bytes: Uint8Array, count: number): string {
  const shown = Buffer.from(bytes.subarray(0, Math.min(count, MAX_SHOWN))).toString("hex");
  return count > MAX_SHOWN ? `${shown}...` : shown;
}
