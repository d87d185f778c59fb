import type { Backing, GuestMemoryLayout } from "../driver/driver.ts";
import {
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_NORESERVE,
  MAP_PRIVATE,
  MAP_SHARED,
  mmap,
  munmap,
  PROT_READ,
  PROT_WRITE,
  viewOf,
} from "./libc.ts";
import { type PhysicalMemory, populatedSpans, rangeOf, SCRATCH_SIZE, type ScanPiece } from "./physical-memory.ts";

/**
 * RAM whose bytes are in this process's address space, laid out so that the index of a byte is its guest physical
 * address: translation ends in an index and nothing is copied.
 */
export class MappedMemory implements PhysicalMemory {
  readonly layout: GuestMemoryLayout;
  readonly view: DataView;
  readonly bytes: Uint8Array;
  readonly direct = true;
  readonly scratch: number;
  readonly #release: () => void;
  // The range of the last hit: most of what a kernel looks at is in one.
  #rangeStart = 0;
  #rangeEnd = 0;

  /** `buffer` holds RAM at its guest physical addresses and SCRATCH_SIZE writable bytes from `scratch` on. */
  constructor(layout: GuestMemoryLayout, buffer: ArrayBuffer, scratch: number, release: () => void) {
    this.layout = layout;
    this.view = new DataView(buffer);
    this.bytes = new Uint8Array(buffer);
    this.scratch = scratch;
    this.#release = release;
  }

  locate(gpa: number): number {
    return this.contains(gpa, 1) ? gpa : -1;
  }

  contains(gpa: number, length: number): boolean {
    if (gpa >= this.#rangeStart && gpa + length <= this.#rangeEnd) return true;
    const range = rangeOf(this.layout.ranges, gpa);
    if (range === undefined) return false;
    this.#rangeStart = range.gpa;
    this.#rangeEnd = range.gpa + range.length;
    return gpa + length <= this.#rangeEnd;
  }

  scan(chunk: number, visit: (piece: ScanPiece) => boolean | undefined): void {
    for (const span of populatedSpans(this.layout)) {
      for (let done = 0; done < span.length; done += chunk) {
        const gpa = span.gpa + done;
        const length = Math.min(chunk, span.length - done);
        if (visit({ gpa, length, bytes: this.bytes, view: this.view, index: gpa })) return;
      }
    }
  }

  copy(gpa: number, length: number): Uint8Array | undefined {
    return this.contains(gpa, length) ? this.bytes.slice(gpa, gpa + length) : undefined;
  }

  copyTo(gpa: number, target: Uint8Array): boolean {
    if (!this.contains(gpa, target.length)) return false;
    target.set(this.bytes.subarray(gpa, gpa + target.length));
    return true;
  }

  /** Nothing is copied: what is located is current. */
  current(gpa: number): number {
    return this.locate(gpa);
  }

  refresh(): void {}

  dropCaches(): void {}

  [Symbol.dispose](): void {
    this.#release();
  }
}

/** Maps every range at its guest physical address within one reservation; holes read as zeros and count as no RAM. */
export function mapMemory(layout: GuestMemoryLayout): MappedMemory {
  const last = layout.ranges.at(-1);
  if (last === undefined) throw new Error("the guest has no RAM");
  const scratch = last.gpa + last.length;
  const size = scratch + SCRATCH_SIZE;
  const base = mmap(0n, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  const release = () => munmap(base, size);
  try {
    for (const range of layout.ranges) {
      const backing = layout.backings[range.backing] as Backing;
      mmap(base + BigInt(range.gpa), range.length, PROT_READ, MAP_SHARED | MAP_FIXED, backing.fd, range.offset);
    }
    mmap(base + BigInt(scratch), SCRATCH_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  } catch (error) {
    release();
    throw error;
  }
  return new MappedMemory(layout, viewOf(base, size), scratch, release);
}
