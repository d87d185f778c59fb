import { hash } from "node:crypto";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import type { Budget } from "../budget.ts";
import { PAGE_SIZE } from "../bytes/address.ts";
import type { Section } from "../kernel-file/kernel-file.ts";
import { jumpLabels, Sections, SiteList, smpLocks, staticCalls } from "../kernel-file/patch-sites.ts";
import type { TextReference } from "../kernel-file/text-reference.ts";
import { type SymbolSpec, symbol } from "../symbols/specs.ts";
import { ftraceSites } from "./ftrace-sites.ts";
import type { Kernel } from "./kernel.ts";
import { patchTables } from "./kernel-text.ts";

const textStart = symbol("_text");
const textEnd = symbol("_etext");
/** Kept only where a machine of one processor may get more (arch/x86/kernel/alternative.c: alternatives_enable_smp). */
const locks = [symbol("?__smp_locks"), symbol("?__smp_locks_end")] as const;
const locksKept = symbol("?uniproc_patched");

const TOP = -1;
/** More than the text of any kernel has, and than any of its tables. */
const MAX_TEXT = 64 << 20;
const MAX_TABLE = 8 << 20;
/** Bytes that a registered probe may have changed: a jump. */
const PROBE_SIZE = 5;
/** A page to be copied and hashed takes as long as so many elements of a list. */
const PAGE_COST = 8;

/** Where the text that the kernel runs lies. */
export interface TextBounds {
  /** Lower half of the address of the first byte. */
  readonly start: number;
  readonly length: number;
}

/** By the kernel's symbols; undefined where those make no sense. */
export function textBounds(kernel: Kernel): TextBounds | undefined {
  return boundsOf(kernel, textStart, textEnd, MAX_TEXT);
}

/** A copy; undefined where not all of it can be read. */
export function readText(kernel: Kernel, bounds: TextBounds, budget: Budget): Buffer | undefined {
  budget.spend((bounds.length / PAGE_SIZE) * PAGE_COST);
  return readBounds(kernel, bounds);
}

/**
 * Where the kernel changes its text while it runs, by the tables in its own memory. What it changes only as it starts is
 * in none of them.
 *
 * @param start lower half of the address of the text
 * @param probed lower halves of where probes are: what was there before is not known
 */
export function liveSites(
  kernel: Kernel,
  start: number,
  text: Buffer,
  probed: ReadonlySet<number>,
  budget: Budget,
): SiteList {
  const sections: Section[] = [{ name: ".text", address: start, bytes: text }];
  const add = (name: string, [from, to]: readonly [SymbolSpec, SymbolSpec]) => {
    const bounds = boundsOf(kernel, from, to, MAX_TABLE);
    const bytes = bounds && readBounds(kernel, bounds);
    if (bytes === undefined) return undefined;
    sections.push({ name, address: bounds!.start, bytes });
    return [bounds!.start, bounds!.start + bytes.length] as const;
  };
  const labels = add("jump labels", patchTables.jumpLabels);
  const calls = add("static calls", patchTables.staticCalls);
  const kept = kernel.optionalPlace(locksKept);
  const flag = kept && kernel.space.borrow(kept.hi, kept.lo, 1);
  if (flag !== undefined && flag >= 0 && kernel.memory.bytes[flag] === 1) add(".smp_locks", locks);
  const all = new Sections(sections);
  const sites = new SiteList();
  jumpLabels(sites, all, labels);
  staticCalls(sites, all, calls);
  smpLocks(sites, all);
  const traced = ftraceSites(kernel, budget);
  for (let i = 0; i < (traced?.count ?? 0); i++) {
    const at = traced!.lo[i]! >>> 0;
    if (traced!.hi[i] === TOP && at >= start && at < start + text.length) sites.add("ftrace", at, 5);
  }
  for (const place of probed) sites.add("constant", place >>> 0, PROBE_SIZE);
  sites.sort();
  return sites;
}

/** A kernel's text as it was when it was first looked at: packed, for the day that it differs. */
export class FirstText {
  /** Milliseconds since 1970, by the clock of who looks. */
  readonly taken = Date.now();
  readonly sites: SiteList;
  readonly #start: number;
  readonly #packed: Buffer;
  /** Until it has been compared. */
  #text: Buffer | undefined;
  /** Of each page of the last text that was found to be right. */
  #digests: readonly string[] = [];

  constructor(start: number, text: Buffer, sites: SiteList) {
    this.sites = sites;
    this.#start = start;
    this.#text = text;
    this.#packed = zstdCompressSync(text);
  }

  /**
   * @param isRight tells whether the text is as it should be, given what it was at first; not called while it is as it was
   *   when that was true
   */
  compare(text: Buffer, isRight: (reference: TextReference) => boolean): void {
    const digests = digestsOf(text);
    if (digests.every((digest, page) => digest === this.#digests[page])) return;
    const bytes = this.#text ?? zstdDecompressSync(this.#packed);
    this.#text = undefined;
    const { sites } = this;
    const reference = { start: this.#start, moved: 0, sites, replacements: undefined, bytes, settled: bytes };
    if (isRight(reference)) this.#digests = digests;
  }
}

function digestsOf(text: Buffer): string[] {
  const pages = Math.ceil(text.length / PAGE_SIZE);
  return Array.from({ length: pages }, (_, page) =>
    hash("sha256", text.subarray(page * PAGE_SIZE, (page + 1) * PAGE_SIZE), "base64"),
  );
}

function boundsOf(kernel: Kernel, from: SymbolSpec, to: SymbolSpec, most: number): TextBounds | undefined {
  const [first, last] = [kernel.optionalPlace(from), kernel.optionalPlace(to)];
  if (first?.hi !== TOP || last?.hi !== TOP) return undefined;
  const length = (last.lo >>> 0) - (first.lo >>> 0);
  return length >= 0 && length <= most ? { start: first.lo >>> 0, length } : undefined;
}

function readBounds({ space }: Kernel, { start, length }: TextBounds): Buffer | undefined {
  const bytes = Buffer.alloc(length);
  return space.read(TOP, start | 0, bytes) === length ? bytes : undefined;
}
