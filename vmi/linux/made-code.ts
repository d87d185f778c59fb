import type { Budget } from "../budget.ts";
import { type Halves, PAGE_SIZE } from "../bytes/address.ts";
import { struct, symbol } from "../symbols/specs.ts";
import { ftraceOps, walkFtraceOps } from "./ftrace.ts";
import type { Kernel, Place } from "./kernel.ts";
import { walkList } from "./list.ts";
import { isNull, latin1, plus, readCString, readPointer, readU32, sameAddress } from "./read.ts";

/** Code that the kernel itself makes at run time, by what the kernel knows of it: in the area of modules, but of no module. */

/** kernel/bpf/core.c: programs, trampolines and dispatchers; struct bpf_ksym from 5.7 (bfea9a8574f3). */
const bpfKallsyms = symbol("?bpf_kallsyms");
const bpfKsym = struct("?bpf_ksym", { start: "start", end: "end", name: "name", lnode: "lnode" });
/** kernel/kprobes.c: copies of the instructions that probes displaced, and detours to optimised ones. */
const instructionSlots = [symbol("?kprobe_insn_slots"), symbol("?kprobe_optinsn_slots")];
const insnCache = struct("?kprobe_insn_cache", { pages: "pages" });
const insnPage = struct("?kprobe_insn_page", { list: "list", insns: "insns" });
/** arch/x86/kernel/ftrace.c: copies of ftrace_caller and ftrace_regs_caller that call one function; size from 3.18. */
const trampolineSize = struct("?ftrace_ops", { size: "?trampoline_size" });
/** Ops that are variables of the kernel keep their trampoline while they are not registered (ftrace_trampoline_free). */
const keptOps = ["kprobe_ftrace_ops", "kprobe_ipmodify_ops", "global_ops", "graph_ops"].map((name) =>
  symbol(`?${name}`),
);

const MAX_PIECES = 65_536;
const KSYM_NAME_LEN = 512;
/** A trampoline has some hundred bytes. */
const MAX_TRAMPOLINE = 1 << 16;

/** What made a piece of code. */
export type CodeMaker = "bpf" | "ftrace" | "kprobe";

export interface MadeCode {
  readonly maker: CodeMaker;
  /** "bpf_prog_6deef7357e7b4530_x", of ftrace the symbol-less ops; empty for slots of probes. */
  readonly name: string;
  readonly start: Halves;
  readonly size: number;
}

/** Pieces in no order; incomplete where a list could not be followed to its end. */
export function walkMadeCode(kernel: Kernel, budget: Budget): { pieces: MadeCode[]; complete: boolean } {
  const bpf = bpfCode(kernel, budget);
  const slots = instructionSlots.map((spec) => slotPages(kernel, kernel.optionalPlace(spec), budget));
  const ftrace = trampolines(kernel, budget);
  const all = [bpf, ...slots, ftrace];
  return { pieces: all.flatMap(({ pieces }) => pieces), complete: all.every(({ complete }) => complete) };
}

interface Pieces {
  readonly pieces: readonly MadeCode[];
  readonly complete: boolean;
}

const NONE: Pieces = { pieces: [], complete: true };

function bpfCode(kernel: Kernel, budget: Budget): Pieces {
  const layout = kernel.layout(bpfKsym);
  const head = kernel.optionalPlace(bpfKallsyms);
  if (head === undefined || layout.lnode < 0) return NONE;
  const list = walkList(kernel, head, layout.lnode, MAX_PIECES, budget);
  const pieces: MadeCode[] = [];
  for (let i = 0; i < list.count; i++) {
    const at = { hi: list.hi[i]!, lo: list.lo[i]! };
    const start = readPointer(kernel.space, at, layout.start);
    const end = readPointer(kernel.space, at, layout.end);
    const name = readCString(kernel.space, plus(at, layout.name), KSYM_NAME_LEN);
    if (start === undefined || end === undefined || start.hi !== end.hi) continue;
    pieces.push({ maker: "bpf", name: latin1(name ?? EMPTY), start, size: (end.lo >>> 0) - (start.lo >>> 0) });
  }
  return { pieces, complete: list.complete };
}

function slotPages(kernel: Kernel, cache: Place | undefined, budget: Budget): Pieces {
  const page = kernel.layout(insnPage);
  const { pages } = kernel.layout(insnCache);
  if (cache === undefined || pages < 0 || page.insns < 0) return NONE;
  const list = walkList(kernel, plus(cache, pages), page.list, MAX_PIECES, budget);
  const pieces: MadeCode[] = [];
  for (let i = 0; i < list.count; i++) {
    const start = readPointer(kernel.space, { hi: list.hi[i]!, lo: list.lo[i]! }, page.insns);
    if (start !== undefined) pieces.push({ maker: "kprobe", name: "", start, size: PAGE_SIZE });
  }
  return { pieces, complete: list.complete };
}

function trampolines(kernel: Kernel, budget: Budget): Pieces {
  const { trampoline } = kernel.layout(ftraceOps);
  const { size: sizeAt } = kernel.layout(trampolineSize);
  if (trampoline < 0 || sizeAt < 0) return NONE;
  const { found, complete } = walkFtraceOps(kernel, budget);
  const kept = keptOps.map((spec) => kernel.optionalPlace(spec)).filter((place) => place !== undefined);
  const pieces: MadeCode[] = [];
  for (const ops of [...found, ...kept]) {
    const start = readPointer(kernel.space, ops, trampoline);
    const size = readU32(kernel.space, ops, sizeAt);
    if (start === undefined || isNull(start) || size === undefined || size > MAX_TRAMPOLINE) continue;
    if (!pieces.some((piece) => sameAddress(piece.start, start)))
      pieces.push({ maker: "ftrace", name: "", start, size });
  }
  return { pieces, complete };
}

const EMPTY = new Uint8Array(0);
