import type { Budget } from "../budget.ts";
import { type Halves, numberOf } from "../bytes/address.ts";
import { struct, symbol } from "../symbols/specs.ts";
import { walkHlist } from "./hlist.ts";
import type { Kernel } from "./kernel.ts";
import { walkList } from "./list.ts";
import { isNull, plus, readCString, readNumber, readPointer, sameAddress } from "./read.ts";

/** kernel/trace/ftrace.c: everyone who is called when traced functions are, in a list that ends at `ftrace_list_end`. */
const opsList = symbol("ftrace_ops_list");
const listEnd = symbol("?ftrace_list_end");
/** kernel/trace/trace.c: the top of tracefs and its instances. */
const traceArrays = symbol("?ftrace_trace_arrays");

/** include/linux/ftrace.h; all but the first three with CONFIG_DYNAMIC_FTRACE only. */
export const ftraceOps = struct("ftrace_ops", {
  func: "func",
  next: "next",
  flags: "flags",
  func_hash: "?func_hash",
  trampoline: "?trampoline",
});
const opsHash = struct("?ftrace_ops_hash", { filter_hash: "filter_hash", notrace_hash: "notrace_hash" });
const ftraceHash = struct("?ftrace_hash", { size_bits: "size_bits", buckets: "buckets", count: "count" });
const funcEntry = struct("?ftrace_func_entry", { hlist: "hlist", ip: "ip" });
const traceArray = struct("?trace_array", { list: "list", name: "name", ops: "?ops" });

const MAX_OPS = 65_536;
/** FTRACE_HASH_MAX_BITS is 12; more is not believed. */
const MAX_HASH_BITS = 16;
const MAX_INSTANCES = 4096;
const NAME_MAX = 255;

/** The registered ops; incomplete when the list can't be followed to its end. */
export function walkFtraceOps(kernel: Kernel, budget: Budget): { found: Halves[]; complete: boolean } {
  const { next } = kernel.layout(ftraceOps);
  const end = kernel.optionalPlace(listEnd);
  const seen = new Set<number>();
  const found: Halves[] = [];
  let at = readPointer(kernel.space, kernel.place(opsList));
  for (;;) {
    budget.spend();
    if (at === undefined) return { found, complete: false };
    if (isNull(at) || (end !== undefined && sameAddress(at, end))) return { found, complete: true };
    // Exact below 2^53 only, but kernel addresses that differ there differ lower too.
    const key = numberOf(at.hi & 0x1f_ffff, at.lo);
    if (seen.has(key) || found.length === MAX_OPS) return { found, complete: false };
    seen.add(key);
    found.push(at);
    at = readPointer(kernel.space, at, next);
  }
}

/** FTRACE_OPS_FL_…, by bit; those without a word say how far a change has come. */
const FLAGS: readonly (readonly [number, string])[] = [
  [0, "enabled"],
  [1, "dynamic"],
  [2, "save_regs"],
  [3, "save_regs_if_supported"],
  [4, "recursion"],
  [5, "stub"],
  [7, "deleted"],
  [11, "trampoline"],
  [12, "ipmodify"],
  [13, "pid"],
  [14, "rcu"],
  [16, "permanent"],
  [17, "direct"],
  [18, "subop"],
];

/** Words of the flags that are set, separated by spaces. */
export function opsFlags(kernel: Kernel, ops: Halves): string | undefined {
  const flags = readPointer(kernel.space, ops, kernel.layout(ftraceOps).flags);
  return (
    flags &&
    FLAGS.filter(([bit]) => (flags.lo >>> bit) & 1)
      .map(([, word]) => word)
      .join(" ")
  );
}

export interface FilterHash {
  readonly at: Halves;
  /** Functions in it; 0 stands for all functions in a filter, for none in what is left out. */
  readonly count: number;
}

/** The functions that ops are limited to, or that are left out; undefined when unreadable or without such hashes. */
export function opsHashOf(kernel: Kernel, ops: Halves, which: "filter_hash" | "notrace_hash"): FilterHash | undefined {
  const { func_hash } = kernel.layout(ftraceOps);
  const layout = kernel.layout(ftraceHash);
  const hashes = func_hash < 0 ? undefined : readPointer(kernel.space, ops, func_hash);
  const member = kernel.layout(opsHash)[which];
  const at = hashes && member >= 0 ? readPointer(kernel.space, hashes, member) : undefined;
  if (at === undefined) return undefined;
  if (isNull(at)) return { at, count: 0 };
  const count = layout.count < 0 ? undefined : readNumber(kernel.space, at, layout.count);
  return count === undefined || count < 0 ? undefined : { at, count };
}

/** Addresses of the functions of a hash, in no order; undefined when they could not all be read. */
export function hashedFunctions(kernel: Kernel, { at, count }: FilterHash, budget: Budget): Halves[] | undefined {
  const { space } = kernel;
  const layout = kernel.layout(ftraceHash);
  const entry = kernel.layout(funcEntry);
  if (count === 0) return [];
  const bits = readNumber(space, at, layout.size_bits);
  const buckets = readPointer(space, at, layout.buckets);
  if (bits === undefined || bits < 0 || bits > MAX_HASH_BITS || buckets === undefined || entry.ip < 0) return undefined;
  const found: Halves[] = [];
  for (let bucket = 0; bucket < 2 ** bits; bucket++) {
    budget.spend();
    const chain = walkHlist(kernel, plus(buckets, bucket * 8), entry.hlist, count, budget);
    if (!chain.complete) return undefined;
    for (let i = 0; i < chain.count; i++) {
      const ip = readPointer(space, { hi: chain.hi[i]!, lo: chain.lo[i]! }, entry.ip);
      if (ip === undefined || found.length === count) return undefined;
      found.push(ip);
    }
  }
  return found;
}

export interface TraceInstance {
  readonly ops: Halves;
  /** Empty for the top of tracefs. */
  readonly name: Uint8Array;
}

/** Instances of tracefs, with what each has the function tracer call. */
export function traceInstances(kernel: Kernel, budget: Budget): TraceInstance[] {
  const head = kernel.optionalPlace(traceArrays);
  const layout = kernel.layout(traceArray);
  if (head === undefined || layout.ops < 0) return [];
  const list = walkList(kernel, head, layout.list, MAX_INSTANCES, budget);
  const found: TraceInstance[] = [];
  for (let i = 0; i < list.count; i++) {
    const at = { hi: list.hi[i]!, lo: list.lo[i]! };
    const ops = readPointer(kernel.space, at, layout.ops);
    const name = instanceName(kernel, at);
    if (ops !== undefined && !isNull(ops) && name !== undefined) found.push({ ops, name });
  }
  return found;
}

/** Of a trace_array: empty for the top of tracefs. */
export function instanceName(kernel: Kernel, at: Halves): Uint8Array | undefined {
  const { name } = kernel.layout(traceArray);
  const text = name < 0 ? undefined : readPointer(kernel.space, at, name);
  return text && (isNull(text) ? EMPTY : readCString(kernel.space, text, NAME_MAX));
}

const EMPTY = new Uint8Array(0);
