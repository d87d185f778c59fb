import type { GuestMemoryLayout, RamRange } from "../driver/driver.ts";

/**
 * Guest physical memory as one `DataView`. {@link PhysicalMemory.locate} turns a guest physical address into an index
 * of that view; how the bytes got there (a mapping, a page cache) is the implementation's business.
 */
export interface PhysicalMemory extends Disposable {
  readonly layout: GuestMemoryLayout;
  /** Holds every located byte, and behind `scratch` room for copies. */
  readonly view: DataView;
  readonly bytes: Uint8Array;
  /** True when an index is the guest physical address itself, so that neighbours in memory are neighbours in the view. */
  readonly direct: boolean;
  /** Index of SCRATCH_SIZE writable bytes in the view. */
  readonly scratch: number;
  /** Index of the byte at `gpa`, good to the end of its page; -1 when it is not RAM or can't be read. */
  locate(gpa: number): number;
  /** True when all of [gpa, gpa + length) is RAM of one range. */
  contains(gpa: number, length: number): boolean;
  /** Bytes of RAM, in order, in pieces of at most `chunk` bytes, without what is known to be untouched. Stops when `visit` returns true. */
  scan(chunk: number, visit: (piece: ScanPiece) => boolean | undefined): void;
  /** A copy of [gpa, gpa + length); undefined when part of it isn't RAM. */
  copy(gpa: number, length: number): Uint8Array | undefined;
  /** Copies [gpa, gpa + target.length) as it is now into `target`; false when part of it isn't RAM or can't be read. */
  copyTo(gpa: number, target: Uint8Array): boolean;
  /** As locate, for the byte as it is now, past the copies that this request has made. Good until the next refresh(). */
  current(gpa: number): number;
  /** Lets current() look anew. */
  refresh(): void;
  /** Forgets copies, so that the next request sees the guest as it is then. */
  dropCaches(): void;
}

export interface ScanPiece {
  readonly gpa: number;
  readonly length: number;
  /** Where the piece lies: `bytes[index]` is the byte at `gpa`. */
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly index: number;
}

/** Room for a block of task_structs (see tables/task-rows.ts) and for what is borrowed beside it. */
export const SCRATCH_SIZE = 1 << 21;

export function rangeOf(ranges: readonly RamRange[], gpa: number): RamRange | undefined {
  for (const range of ranges) {
    if (gpa >= range.gpa && gpa < range.gpa + range.length) return range;
  }
  return undefined;
}

export function containsSpan(ranges: readonly RamRange[], gpa: number, length: number): boolean {
  const range = rangeOf(ranges, gpa);
  return range !== undefined && length >= 0 && gpa + length <= range.gpa + range.length;
}

/** The parts of RAM that can hold anything but zeros, cut to the ranges, ascending. */
export function* populatedSpans(
  layout: GuestMemoryLayout,
): Generator<{ gpa: number; length: number; range: RamRange }> {
  for (const range of layout.ranges) {
    const rangeEnd = range.gpa + range.length;
    for (const span of layout.populated ?? [range]) {
      const start = Math.max(span.gpa, range.gpa);
      const end = Math.min(span.gpa + span.length, rangeEnd);
      if (start < end) yield { gpa: start, length: end - start, range };
    }
  }
}
