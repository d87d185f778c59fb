import { formatHalves, type Halves } from "../bytes/address.ts";
import { compareText, judgeSites, type TextDifference, type TextJudges } from "../kernel-file/compare-text.ts";
import type { SiteKind } from "../kernel-file/patch-sites.ts";
import type { TextReference } from "../kernel-file/text-reference.ts";
import { isExpectedChange, type TextPair } from "../kernel-file/verify-site.ts";
import { describeAddress, symbolText } from "../linux/kernel-address.ts";
import { symbol } from "../symbols/specs.ts";
import type { CheckContext } from "./check.ts";
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

/**
 * Compares the kernel's text with what it should be, and reports what the kernel did not change itself.
 *
 * @param text a copy of the guest's, as long as the reference
 * @param since what the expected bytes are, for people: "in its image"
 * @returns what was reported
 */
export function reportChanges(
  context: CheckContext,
  reference: TextReference,
  text: Buffer,
  since: string,
): readonly TextDifference[] {
  const { bytes, start } = reference;
  const differences = compareText(reference, text, judgesOf(context, start, text.length));
  bounded(context, differences, ({ from, to }) => {
    const original = codeIn(bytes, from, to);
    report(context, start, text, { from, to }, { text: `${hex(original, to - from)} ${since}`, original });
  });
  return differences;
}

/**
 * Reports places that the kernel changes while it runs, and that hold nothing that it makes of them.
 *
 * @param told what was reported of the text already
 * @returns whether nothing was reported, and nothing hangs on what the kernel has in its lists now
 */
export function reportStrangeSites(
  context: CheckContext,
  { start, sites }: TextReference,
  text: Buffer,
  told: readonly TextDifference[],
): boolean {
  context.budget.spend(sites.count >>> 2);
  const judges = judgesOf(context, start, text.length);
  const { strange, lasting } = judgeSites(start, text, sites, judges, told, MAX_REPORTED + 1);
  bounded(context, strange, ({ kind, at, length }) => {
    report(context, start, text, { from: at - start, to: at - start + length }, { text: STATES[kind] ?? "" });
  });
  return strange.length === 0 && lasting;
}

function bounded<T>(context: CheckContext, places: readonly T[], report: (place: T) => void): void {
  if (places.length > MAX_REPORTED) context.incomplete(`more than ${MAX_REPORTED} places of the text were changed`);
  for (const place of places.slice(0, MAX_REPORTED)) report(place);
}

const STATES: Partial<Record<SiteKind, string>> = {
  ftrace: "a nop, or a call of the function tracer",
  "jump-label": "a nop, or a jump to the label that the kernel's table has for it",
  "static-call": "a nop, or a call of the kernel's text, or of a module that came with it",
};

/** What the kernel may have made of its text, by what else it has in its lists. */
function judgesOf(context: CheckContext, start: number, length: number): TextJudges {
  const own = once((address) => isOwnCode(context, address));
  const tracer = once((address) => isTracer(context, { hi: TOP, lo: address | 0 }));
  return {
    mayCall: (address) => (address >= start && address < start + length) || own(address),
    isTracer: tracer,
    codeAt: (address, length) => {
      const code = new Uint8Array(length);
      return context.kernel.space.read(TOP, address | 0, code) === length ? code : undefined;
    },
    otherwise: (offset, pair) => otherwise(context, offset, pair),
  };
}

/** Many places lead to one: a tracer's trampoline. */
function once(judge: (address: number) => boolean): (address: number) => boolean {
  const known = new Map<number, boolean>();
  return (address) => {
    const verdict = known.get(address) ?? judge(address);
    known.set(address, verdict);
    return verdict;
  };
}

/** Of a module that came with the kernel, or made by the kernel. */
function isOwnCode(context: CheckContext, address: number): boolean {
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
    const detour =
      code[0] === JMP && code.length === JUMP_SIZE ? (address + JUMP_SIZE + code.readInt32LE(1)) | 0 : undefined;
    if (detour !== undefined && codeOwner(context, { hi: TOP, lo: detour }).kind === "made") return JUMP_SIZE;
  }
  for (const spec of tracerCalls) {
    const from = offset - address + ((kernel.optionalPlace(spec)?.lo ?? 0) >>> 0);
    if (offset < from || offset >= from + JUMP_SIZE) continue;
    const own = text.found.subarray(from, from + JUMP_SIZE);
    if (own.length < JUMP_SIZE) continue;
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

function report(
  context: CheckContext,
  start: number,
  text: Buffer,
  { from, to }: TextDifference,
  expected: { readonly text: string; readonly original?: Uint8Array },
): void {
  const { kernel, budget } = context;
  const at: Halves = { hi: TOP, lo: (start + from) | 0 };
  const described = describeAddress(kernel, at, budget);
  const place = symbolText(described) ?? formatHalves(at.hi, at.lo);
  const found = codeIn(text, from, to);
  const detour = detourOf(found, at);
  const owner = detour?.target && codeOwner(context, detour.target);
  const leads = detour === undefined ? "" : `: ${detour.how}${owner === undefined ? "" : ` to ${owner.text}`}`;
  const count = to - from;
  context.report({
    what: `the kernel's text was changed at ${place}${leads}`,
    where: `${place} at ${formatHalves(at.hi, at.lo)}`,
    evidence: `${hex(found, count)}, ${count} ${count === 1 ? "byte" : "bytes"}`,
    expected: expected.text,
    identity: `${place} ${owner?.name ?? count}`,
    address: detour?.target ?? at,
    code: { at, found, ...(expected.original && { original: expected.original }) },
  });
}

/** What is shown of code that was changed: all of it, and at least a few instructions. */
function codeIn(text: Buffer, from: number, to: number): Uint8Array {
  return Uint8Array.from(text.subarray(from, from + Math.min(MAX_SHOWN, Math.max(SHOWN, to - from))));
}

function hex(bytes: Uint8Array, count: number): string {
  const shown = Buffer.from(bytes.subarray(0, Math.min(count, MAX_SHOWN))).toString("hex");
  return count > MAX_SHOWN ? `${shown}...` : shown;
}
