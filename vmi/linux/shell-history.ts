import type { Budget } from "../budget.ts";
import { addHi, addLo, type Halves, hiOf, loOf, PAGE_SHIFT, PAGE_SIZE } from "../bytes/address.ts";
import type { AddressSpace } from "../memory/address-space.ts";
import { struct } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { userSpace } from "./mm.ts";
import { readNumber } from "./read.ts";
import type { ReadlineUsers } from "./readline.ts";

const mm = struct("mm_struct", { start_brk: "start_brk", brk: "brk" });

/** A larger heap is looked at up to here. */
const MAX_HEAP = 32 << 20;
/** So many pages are searched in the time that it takes to find out whether that is worth it. */
const FEW_PAGES = 16;
const MAX_LINE = 1 << 16;
const MAX_ENTRIES = 1 << 20;
const HASH = 0x23;
/** Of struct _hist_entry: `char *line; char *timestamp; histdata_t data` (readline's history.h). */
const ENTRY_SIZE = 24;
/** Words of a heap that are searched for the price of a list element. */
const WORDS_A_STEP = 512;

export interface HistoryEntry {
  /** Seconds since 1970, as the shell wrote them. */
  readonly time: number;
  readonly line: Uint8Array;
  /** Address of the HIST_ENTRY in the process. */
  readonly at: Halves;
  /** A pointer to it is in the heap, as the shell's list of entries has one; false for one that was taken off it. */
  readonly listed: boolean;
}

/**
 * Entries of GNU readline's history on a process's heap, as bash keeps them: no symbols of the shell are needed. A
 * timestamp is text of `#` and seconds; what points to one, behind a pointer to a line, is an entry.
 *
 * Pages that are not in memory are passed over: mostly they were never touched. More than a few are searched only where the
 * process may have readline, which costs less to find out.
 *
 * @param users which processes may
 * @param searched the pages that were looked at for other processes of the same request: those of forked ones are shared
 * @returns oldest first; undefined when the heap can't be read. `complete` is false when it is too large to be searched
 */
export function shellHistory(
  kernel: Kernel,
  mmAt: Halves,
  users: ReadlineUsers,
  searched: SearchedPages,
  budget: Budget,
): { readonly entries: readonly HistoryEntry[]; readonly complete: boolean } | undefined {
  const layout = kernel.layout(mm);
  const start = readNumber(kernel.space, mmAt, layout.start_brk);
  const end = readNumber(kernel.space, mmAt, layout.brk);
  const space = userSpace(kernel, mmAt);
  if (start === undefined || end === undefined || space === undefined) return undefined;
  const length = Math.min(end - start, MAX_HEAP) & -8;
  if (!Number.isSafeInteger(start) || start < 0 || !(length > 0)) return { entries: [], complete: true };
  budget.spend(1 + (length >>> PAGE_SHIFT));
  const base = BigInt(start);
  const heap = { hi: hiOf(base), lo: loOf(base), length };
  const entries = mayHoldHistory(space, heap, searched, () => users.mayBe(mmAt))
    ? entriesOf(copyOf(space, heap), start, budget)
    : [];
  return { entries, complete: end - start <= MAX_HEAP };
}

/** By guest physical address: whether a page may hold timestamps. */
export type SearchedPages = Map<number, boolean>;

interface Span extends Halves {
  readonly length: number;
}

/** Most processes have none: looks for a timestamp's first bytes where they lie. */
function mayHoldHistory(space: AddressSpace, span: Span, searched: SearchedPages, isWorthIt: () => boolean): boolean {
  const { memory } = space;
  let present = 0;
  for (let done = 0; done < span.length; ) {
    const lo = addLo(span.lo, done);
    const count = Math.min(span.length - done, PAGE_SIZE - (lo & (PAGE_SIZE - 1)));
    const gpa = space.physical(addHi(span.hi, span.lo, done), lo);
    if (gpa >= 0 && ++present === FEW_PAGES && !isWorthIt()) return false;
    const whole = count === PAGE_SIZE;
    let may = whole ? searched.get(gpa) : undefined;
    if (may === undefined) {
      const index = gpa < 0 ? -1 : memory.locate(gpa);
      may = index >= 0 && pageMayHold(memory.view, index + alignment(lo >>> 0), index + count);
      if (whole) searched.set(gpa, may);
    }
    if (may) return true;
    done += count;
  }
  return false;
}

/** `#` and three bytes from 0x30 to 0x3f, little endian, and the bits that are looked at. */
const FIRST_FOUR = 0x3030_3023;
const FIRST_FOUR_MASK = 0xf0f0_f0ff | 0;

/** Apart, so that it is compiled as a whole: a loop that is replaced while it runs stays several times slower. */
function pageMayHold(view: DataView, start: number, end: number): boolean {
  for (let at = start; at <= end - 4; at += 8) {
    if ((view.getInt32(at, true) & FIRST_FOUR_MASK) === FIRST_FOUR) return true;
  }
  return false;
}

function copyOf(space: AddressSpace, span: Span): Uint8Array {
  const copy = new Uint8Array(span.length);
  for (let done = 0; done < span.length; ) {
    const lo = addLo(span.lo, done);
    const count = Math.min(span.length - done, PAGE_SIZE - (lo & (PAGE_SIZE - 1)));
    space.read(addHi(span.hi, span.lo, done), lo, copy.subarray(done, done + count));
    done += count;
  }
  return copy;
}

/** Exported for tests: `heap` begins at the address `heapStart`. */
export function entriesOf(heap: Uint8Array, heapStart: number, budget: Budget): HistoryEntry[] {
  // What is looked for is aligned.
  const skipped = alignment(heapStart);
  const start = heapStart + skipped;
  const bytes = skipped === 0 && heap.byteOffset % 8 === 0 ? heap : heap.slice(skipped);
  budget.spend(1 + Math.trunc(bytes.length / 8 / WORDS_A_STEP));
  const times = new Map<number, number>();
  /** Of each word: whether a timestamp begins there, or an entry. */
  const marks = new Uint8Array((bytes.length >>> 3) + 1);
  for (let at = 0; at < bytes.length - 7 && times.size < MAX_ENTRIES; at += 8) {
    if (bytes[at] !== HASH) continue;
    const time = timeAt(bytes, at);
    if (time === undefined) continue;
    times.set(at, time);
    marks[at >>> 3] = TIME;
  }
  if (times.size === 0) return [];
  const pointers = pointersWithin(bytes, start);
  const found = new Map<number, { time: number; line: Uint8Array }>();
  // Entries of a heap that is made up may share a long line: it is looked at once.
  const lines = new Map<number, Uint8Array | undefined>();
  for (let i = 1; i < pointers.length; i += 2) {
    const pointed = pointers[i]!;
    if (marks[pointed >>> 3] === 0 || (pointed & 7) !== 0) continue;
    const at = pointers[i - 1]!;
    const time = times.get(pointed);
    // The pointer before is that of the entry's line.
    const lineAt = time !== undefined && pointers[i - 3] === at - 8 ? pointers[i - 2]! : -1;
    if (time === undefined || lineAt < 0 || lineAt === pointed || at - 8 + ENTRY_SIZE > bytes.length) continue;
    budget.spend();
    if (!lines.has(lineAt)) lines.set(lineAt, lineOf(bytes, lineAt, budget));
    const line = lines.get(lineAt);
    if (line !== undefined) found.set(at - 8, { time, line });
  }
  marks.fill(0);
  for (const at of found.keys()) marks[at >>> 3] = ENTRY;
  const listedAt = new Map<number, number>();
  for (let i = 1; i < pointers.length; i += 2) {
    const pointed = pointers[i]!;
    if (marks[pointed >>> 3] === ENTRY && (pointed & 7) === 0) listedAt.set(pointed, pointers[i - 1]!);
  }
  return [...found]
    .map(([offset, entry]) => ({ ...entry, offset, order: listedAt.get(offset) ?? offset }))
    .sort((a, b) => a.time - b.time || a.order - b.order)
    .map(({ time, line, offset }) => {
      const address = BigInt(start + offset);
      return { time, line, at: { hi: hiOf(address), lo: loOf(address) }, listed: listedAt.has(offset) };
    });
}

/** Pointers of a heap into itself: the offset of each, and behind it that of what it points to. */
function pointersWithin(bytes: Uint8Array, start: number): Int32Array {
  const words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2);
  // The upper halves that such a pointer can have.
  const first = Math.floor(start / U32) | 0;
  const last = Math.floor((start + bytes.length) / U32) | 0;
  const pointers = new Int32Array(words.length);
  let used = 0;
  for (let i = 1; i < words.length; i += 2) {
    const hi = words[i]!;
    if (hi !== first && hi !== last) continue;
    const pointed = (hi >>> 0) * U32 + (words[i - 1]! >>> 0) - start;
    if (pointed >= 0 && pointed < bytes.length) {
      pointers[used++] = (i - 1) * 4;
      pointers[used++] = pointed;
    }
  }
  return pointers.subarray(0, used);
}

const U32 = 0x1_0000_0000;
const TIME = 1;
const ENTRY = 2;

/** Allocations are aligned, whatever the heap's beginning is. */
function alignment(start: number): number {
  return (8 - (start % 8)) % 8;
}

/** `#` and digits, and a zero. */
function timeAt(bytes: Uint8Array, at: number): number | undefined {
  let time = 0;
  for (let i = 1; i <= 12; i++) {
    const byte = bytes[at + i];
    if (byte === 0) return i > 1 ? time : undefined;
    if (byte === undefined || !isDigit(byte)) return undefined;
    time = time * 10 + byte - 0x30;
  }
  return undefined;
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x30 && byte <= 0x39;
}

/** A line that was typed: text without control characters other than tabs and line ends. */
function lineOf(bytes: Uint8Array, at: number, budget: Budget): Uint8Array | undefined {
  const length = bytes.subarray(at, at + MAX_LINE).indexOf(0);
  // Lines of a heap that is made up may be the ends of one another.
  budget.spend(1 + ((length < 0 ? MAX_LINE : length) >>> 6));
  if (length <= 0) return undefined;
  const line = bytes.subarray(at, at + length);
  return line.every((byte) => byte >= 0x20 || byte === 0x09 || byte === 0x0a) ? line : undefined;
}
