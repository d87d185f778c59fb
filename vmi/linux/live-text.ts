import { hash } from "node:crypto";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import type { Budget } from "../budget.ts";
import { PAGE_SIZE } from "../bytes/address.ts";
import {
  distanceSites,
  jumpLabels,
  LOCK_SIZE,
  type PatchTable,
  Sections,
  SiteList,
  staticCalls,
} from "../kernel-file/patch-sites.ts";
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
/** Less and more than the text of any kernel has. */
const MIN_TEXT = 1 << 20;
const MAX_TEXT = 64 << 20;
/** Debian's largest table, of locks, has 200 KiB. */
const MAX_TABLE = 1 << 20;
/** Bytes that a registered probe may have changed: a jump. */
export const PROBE_SIZE = 5;
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
  const bounds = boundsOf(kernel, textStart, textEnd, MAX_TEXT);
  return bounds && bounds.length >= MIN_TEXT ? bounds : undefined;
}

/** A copy; undefined where not all of it can be read. */
export function readText(kernel: Kernel, bounds: TextBounds, budget: Budget): Buffer | undefined {
  budget.spend((bounds.length / PAGE_SIZE) * PAGE_COST);
  return readBounds(kernel, bounds);
}

/**
 * Where the kernel changes its text while it runs, by the tables in its own memory. What it changes only as it starts is
 * in none of them. Throws GuestError "unsupported-kernel" for more places than any kernel has.
 *
 * @param start lower half of the address of the text
 * @returns undefined where not all of the tables can be read
 */
export function liveSites(kernel: Kernel, start: number, text: Buffer, budget: Budget): SiteList | undefined {
  const sections = new Sections([{ name: ".text", address: start, bytes: text }]);
  const sites = new SiteList();
  const kept = kernel.optionalPlace(locksKept);
  const flag = kept === undefined ? -1 : kernel.space.borrow(kept.hi, kept.lo, 1);
  const tables = [patchTables.jumpLabels, patchTables.staticCalls, ...(kernel.memory.bytes[flag] === 1 ? [locks] : [])];
  const [labels, calls, prefixes] = tables.map((bounds) => readTable(kernel, bounds));
  const traced = ftraceSites(kernel, budget);
  if ([labels, calls, prefixes].includes("unreadable") || traced?.complete === false) return undefined;
  jumpLabels(sites, sections, labels as PatchTable | undefined);
  staticCalls(sites, sections, calls as PatchTable | undefined);
  distanceSites(sites, prefixes as PatchTable | undefined, "lock", LOCK_SIZE);
  for (let i = 0; i < (traced?.count ?? 0); i++) {
    const at = traced!.lo[i]! >>> 0;
    if (traced!.hi[i] === TOP && at >= start && at < start + text.length) sites.add("ftrace", at, 5);
  }
  budget.spend(sites.count >>> 2);
  sites.sort();
  return sites;
}

/** Undefined where the kernel has none. */
function readTable(
  kernel: Kernel,
  [from, to]: readonly [SymbolSpec, SymbolSpec],
): PatchTable | undefined | "unreadable" {
  if (kernel.optionalPlace(from) === undefined) return undefined;
  const bounds = boundsOf(kernel, from, to, MAX_TABLE);
  const bytes = bounds && readBounds(kernel, bounds);
  return bytes === undefined ? "unreadable" : { address: bounds!.start, bytes };
}

/** A kernel's text as it was when it was first looked at: packed, for the day that it differs. */
export class FirstText {
  /** Milliseconds since 1970, by the clock of who looks. */
  readonly taken = Date.now();
  readonly #start: number;
  readonly #sites: SiteList;
  readonly #packed: Buffer;
  /** Lower halves of where probes were: what they have replaced is seen when they are gone, by offset. */
  readonly #probed: ReadonlySet<number>;
  readonly #uncovered = new Map<number, Buffer>();
  /** Until it has been compared. */
  #text: Buffer | undefined;
  /** Of each page of the last text that was found to be right. */
  #digests: readonly string[] = [];

  /** @param probed lower halves of where probes are */
  constructor(start: number, text: Buffer, sites: SiteList, probed: ReadonlySet<number>) {
    this.#start = start;
    this.#sites = sites;
    this.#probed = probed;
    this.#text = text;
    this.#packed = zstdCompressSync(text);
  }

  /**
   * @param probed lower halves of where probes are now
   * @param isRight tells whether the text is as it should be, given what it was at first, and will be as long as it stays the
   *   same; not called while it is as it was when that was true
   */
  compare(text: Buffer, probed: ReadonlySet<number>, isRight: (reference: TextReference) => boolean): void {
    const digests = digestsOf(text);
    if (digests.every((digest, page) => digest === this.#digests[page])) return;
    const bytes = this.#text ?? zstdDecompressSync(this.#packed);
    this.#text = undefined;
    for (const place of this.#probed) {
      const from = (place >>> 0) - this.#start;
      const now = Buffer.from(text.subarray(from, from + PROBE_SIZE));
      if (!probed.has(place) && !this.#uncovered.has(from)) this.#uncovered.set(from, now);
      bytes.set(this.#uncovered.get(from) ?? now, from);
    }
    const reference = { start: this.#start, moved: 0, sites: this.#sites, replacements: undefined };
    if (isRight({ ...reference, bytes, settled: bytes })) this.#digests = digests;
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
