import { fstatSync } from "node:fs";
import type { Backing, GuestMemoryLayout } from "../driver/driver.ts";
import {
  addressOf,
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

  /** `bytes` holds RAM at its guest physical addresses and SCRATCH_SIZE writable bytes from `scratch` on. */
  constructor(layout: GuestMemoryLayout, bytes: Uint8Array, scratch: number, release: () => void) {
    this.layout = layout;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.bytes = bytes;
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
  const alignment = Math.max(LARGE_PAGE, ...layout.backings.map(({ fd }) => fstatSync(fd).blksize));
  const { bytes, base, release } = reserve(scratch + SCRATCH_SIZE, alignment);
  try {
    for (const range of layout.ranges) {
      const backing = layout.backings[range.backing] as Backing;
      mmap(base + BigInt(range.gpa), range.length, PROT_READ, MAP_SHARED | MAP_FIXED, backing.fd, range.offset);
    }
    mmap(base + BigInt(scratch), SCRATCH_SIZE, PROT_READ | PROT_WRITE, ANONYMOUS | MAP_FIXED, -1, 0);
  } catch (error) {
    release();
    throw error;
  }
  return new MappedMemory(layout, bytes, scratch, release);
}

/**
 * The host maps 2 MiB of a file at once where both are aligned so, and what is on hugetlbfs only so; its files tell the size
 * of their pages as that of a block, which may be 1 GiB.
 */
const LARGE_PAGE = 2 << 20;

/** Address space that was never written to: it reads as zeros, and takes no memory. */
interface Reservation {
  readonly bytes: Uint8Array;
  readonly base: bigint;
  readonly release: () => void;
}

const ANONYMOUS = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
/** From this size on malloc maps memory of its own: twice glibc's DEFAULT_MMAP_THRESHOLD_MAX. */
const OWN_MAPPING = 64 << 20;

/**
 * A SharedArrayBuffer where there can be one: V8 counts any other buffer as memory of its own, and answers the size of a
 * guest's RAM by collecting all garbage at once, for some 10 ms.
 */
function reserve(size: number, alignment: number): Reservation {
  const most = Math.max(size + alignment, OWN_MAPPING);
  const skippedFrom = (address: bigint) => Number(-address & BigInt(alignment - 1));
  let buffer: SharedArrayBuffer;
  try {
    buffer = new SharedArrayBuffer(most);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    // The host's kernel promises nobody more memory than it has, as for the image of a larger machine.
    const start = mmap(0n, most, PROT_READ, ANONYMOUS, -1, 0);
    const base = start + BigInt(skippedFrom(start));
    return { bytes: new Uint8Array(viewOf(base, size)), base, release: () => munmap(start, most) };
  }
  const address = addressOf(buffer);
  const skipped = skippedFrom(address);
  const base = address + BigInt(skipped);
  // Whoever made the buffer gives it back, and must find no RAM of a guest in it. What can't be written to is promised nobody.
  const release = () => void mmap(base, size, PROT_READ, ANONYMOUS | MAP_FIXED, -1, 0);
  return { bytes: new Uint8Array(buffer, skipped, size), base, release };
}
