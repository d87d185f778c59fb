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
/** A heap of so many bytes has more, as good as always. */
const LARGE_HEAP = 160 << PAGE_SHIFT;
const MAX_LINE = 1 << 16;
const MAX_ENTRIES = 1 << 20;
/** Of struct _hist_entry: `char *line; char *timestamp; histdata_t data` (readline's history.h). */
const ENTRY_SIZE = 24;
/** Of what malloc() gives (System V ABI for x86-64: as any type may need it). */
const ALIGNMENT = 16;
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
  const size = end - start;
  if (!Number.isSafeInteger(start) || start < 0 || !(size > 0)) return { entries: [], complete: true };
  const length = Math.min(size, MAX_HEAP) & -8;
  budget.spend(1 + (length >>> PAGE_SHIFT));
  const base = BigInt(start);
  const heap = { hi: hiOf(base), lo: loOf(base), length };
  const entries = mayHoldHistory(space, heap, searched, () => users.mayBe(mmAt))
    ? entriesOf(copyOf(space, heap), start, budget)
    : [];
  return { entries, complete: size <= MAX_HEAP };
}

/** By guest physical address: whether a page may hold timestamps. */
export type SearchedPages = Map<number, boolean>;

interface Span extends Halves {
  readonly length: number;
}

/** Most processes have none: looks for a timestamp's first bytes where they lie. */
function mayHoldHistory(space: AddressSpace, span: Span, searched: SearchedPages, isWorthIt: () => boolean): boolean {
  const { memory } = space;
  const large = span.length >= LARGE_HEAP;
  if (large && !isWorthIt()) return false;
  let present = 0;
  for (let done = 0; done < span.length; ) {
    const lo = addLo(span.lo, done);
    const count = Math.min(span.length - done, PAGE_SIZE - (lo & (PAGE_SIZE - 1)));
    const gpa = space.physical(addHi(span.hi, span.lo, done), lo);
    if (gpa >= 0 && ++present === FEW_PAGES && !large && !isWorthIt()) return false;
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
  for (let at = start; at <= end - 4; at += ALIGNMENT) {
    if ((view.getInt32(at, true) & FIRST_FOUR_MASK) === FIRST_FOUR) return true;
  }
  return false;
}

/** Where heaps of an ordinary size are copied to: memory that is fresh each time costs more than the search of it. */
const COPY_SIZE = 1 << 20;
let copies: Uint8Array | undefined;

/** Good until the next call; what is not in memory is zero. */
function copyOf(space: AddressSpace, span: Span): Uint8Array {
  const { length } = span;
  copies ??= new Uint8Array(COPY_SIZE);
  const copy = length <= COPY_SIZE ? copies.subarray(0, length) : new Uint8Array(length);
  for (let done = 0; done < length; ) {
    const lo = addLo(span.lo, done);
    const count = Math.min(length - done, PAGE_SIZE - (lo & (PAGE_SIZE - 1)));
    const page = copy.subarray(done, done + count);
    if (space.read(addHi(span.hi, span.lo, done), lo, page) < count) page.fill(0);
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
  const words = new Int32Array(bytes.buffer, bytes.byteOffset, (bytes.length >>> 3) * 2);
  const times = timesOf(bytes, words);
  if (times.size === 0) return [];
  const pointers = new Pointers(words, start);
  const found = new Map<number, { time: number; line: Uint8Array }>();
  // Entries of a heap that is made up may share a long line: it is looked at once.
  const lines = new Map<number, Uint8Array | undefined>();
  for (const i of pointers.toOneOf(times)) {
    const [at, pointed] = [i * 4, pointers.to(i)];
    // The pointer before is that of the entry's line.
    const lineAt = i === 0 ? -1 : pointers.to(i - 2);
    if (lineAt < 0 || lineAt === pointed || at - 8 + ENTRY_SIZE > bytes.length) continue;
    budget.spend();
    if (!lines.has(lineAt)) lines.set(lineAt, lineOf(bytes, lineAt, budget));
    const line = lines.get(lineAt);
    if (line !== undefined) found.set(at - 8, { time: times.get(pointed)!, line });
  }
  const listedAt = new Map<number, number>();
  for (const i of pointers.toOneOf(found)) listedAt.set(pointers.to(i), i * 4);
  return [...found]
    .map(([offset, entry]) => ({ ...entry, offset, order: listedAt.get(offset) ?? offset }))
    .sort((a, b) => a.time - b.time || a.order - b.order)
    .map(({ time, line, offset }) => {
      const address = BigInt(start + offset);
      return { time, line, at: { hi: hiOf(address), lo: loOf(address) }, listed: listedAt.has(offset) };
    });
}

/** Timestamps, by their offset. */
function timesOf(bytes: Uint8Array, words: Int32Array): Map<number, number> {
  const times = new Map<number, number>();
  for (let i = 0; i < words.length; i += ALIGNMENT / 4) {
    if ((words[i]! & FIRST_FOUR_MASK) !== FIRST_FOUR) continue;
    const time = timeAt(bytes, i * 4);
    if (time !== undefined && times.size < MAX_ENTRIES) times.set(i * 4, time);
  }
  return times;
}

/** The words of a heap as pointers into itself. */
class Pointers {
  readonly #words: Int32Array;
  readonly #startHi: number;
  readonly #startLo: number;

  constructor(words: Int32Array, start: number) {
    const address = BigInt(start);
    this.#words = words;
    this.#startHi = hiOf(address);
    this.#startLo = loOf(address);
  }

  /** The offset that the word with its lower half at index `i` points to; -1 when it points elsewhere. */
  to(i: number): number {
    const words = this.#words;
    const lo = words[i]!;
    const pointed = (lo - this.#startLo) >>> 0;
    const hi = lo >>> 0 < this.#startLo >>> 0 ? this.#startHi + 1 : this.#startHi;
    return pointed < words.length * 4 && words[i + 1] === hi ? pointed : -1;
  }

  /** The indices of pointers to one of these offsets. */
  toOneOf(offsets: ReadonlyMap<number, unknown>): number[] {
    let first = Number.POSITIVE_INFINITY;
    let last = -1;
    for (const offset of offsets.keys()) {
      first = Math.min(first, offset);
      last = Math.max(last, offset);
    }
    return last < 0 ? [] : this.#into(first, last).filter((i) => offsets.has(this.to(i)));
  }

  /** The indices of pointers from one offset to another: most words are none, which their lower halves tell. */
  #into(first: number, last: number): number[] {
    const words = this.#words;
    const base = (this.#startLo + first) | 0;
    const span = last - first;
    const found: number[] = [];
    for (let i = 0; i < words.length; i += 2) if ((words[i]! - base) >>> 0 <= span && this.to(i) >= 0) found.push(i);
    return found;
  }
}

/** Bytes up to the first place for an allocation, whatever the heap's beginning is. */
function alignment(start: number): number {
  return (ALIGNMENT - (start % ALIGNMENT)) % ALIGNMENT;
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
  const most = Math.min(bytes.length, at + MAX_LINE);
  let end = at;
  for (; end < most; end++) {
    const byte = bytes[end]!;
    if (byte < 0x20 && byte !== 0x09 && byte !== 0x0a) break;
  }
  // Lines of a heap that is made up may be the ends of one another.
  budget.spend(1 + ((end - at) >>> 6));
  return end > at && end < most && bytes[end] === 0 ? bytes.slice(at, end) : undefined;
}
