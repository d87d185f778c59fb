import { readSync } from "node:fs";
import { PAGE_SHIFT, PAGE_SIZE } from "../bytes/address.ts";
import type { Backing, GuestMemoryLayout } from "../driver/driver.ts";
import {
  containsSpan,
  type PhysicalMemory,
  populatedSpans,
  rangeOf,
  SCRATCH_SIZE,
  type ScanPiece,
} from "./physical-memory.ts";

/** Reads into `target` from a position in a backing; returns the bytes read, fewer where they can't be had. */
export type BackingReader = (backing: number, target: Uint8Array, position: number) => number;

/**
 * RAM that can only be read, not mapped (another process's private memory): pages are copied once a request into an
 * arena. A slot is used again only after SLOTS further loads, so that an index stays good while its object is decoded.
 */
const SLOTS = 2048;
const BUCKETS = 8192;
/** Pages that can be looked at a second time at once: see current(). */
const CURRENT_SLOTS = 64;

export class PagedMemory implements PhysicalMemory {
  readonly layout: GuestMemoryLayout;
  readonly view: DataView;
  readonly bytes: Uint8Array;
  readonly direct = false;
  readonly scratch = (SLOTS + CURRENT_SLOTS) * PAGE_SIZE;
  readonly #read: BackingReader;
  /** Open hash of gfn to slot: keys are gfn + 1, zero is free. */
  readonly #keys = new Float64Array(BUCKETS);
  readonly #slots = new Int32Array(BUCKETS);
  #next = 0;
  #loaded = 0;
  /** Second copies, by gfn: the slot of each. */
  readonly #current = new Map<number, number>();

  constructor(layout: GuestMemoryLayout, read: BackingReader) {
    this.layout = layout;
    this.#read = read;
    const buffer = new ArrayBuffer(this.scratch + SCRATCH_SIZE);
    this.view = new DataView(buffer);
    this.bytes = new Uint8Array(buffer);
  }

  locate(gpa: number): number {
    const gfn = Math.floor(gpa / PAGE_SIZE);
    let bucket = gfn & (BUCKETS - 1);
    for (;;) {
      const key = this.#keys[bucket];
      if (key === gfn + 1) return this.#slots[bucket]! * PAGE_SIZE + (gpa - gfn * PAGE_SIZE);
      if (key === 0) return this.#load(gfn, gpa);
      bucket = (bucket + 1) & (BUCKETS - 1);
    }
  }

  #load(gfn: number, gpa: number): number {
    const page = gfn * PAGE_SIZE;
    const range = rangeOf(this.layout.ranges, page);
    if (range === undefined) return -1;
    // A full arena starts its index anew; the slots go round, so what was just handed out stays.
    if (this.#loaded === SLOTS) this.dropCaches();
    const slot = this.#next;
    const target = this.bytes.subarray(slot << PAGE_SHIFT, (slot + 1) << PAGE_SHIFT);
    if (this.#read(range.backing, target, range.offset + (page - range.gpa)) !== PAGE_SIZE) return -1;
    this.#next = (slot + 1) % SLOTS;
    this.#loaded++;
    let bucket = gfn & (BUCKETS - 1);
    while (this.#keys[bucket] !== 0) bucket = (bucket + 1) & (BUCKETS - 1);
    this.#keys[bucket] = gfn + 1;
    this.#slots[bucket] = slot;
    return slot * PAGE_SIZE + (gpa - page);
  }

  contains(gpa: number, length: number): boolean {
    return containsSpan(this.layout.ranges, gpa, length);
  }

  scan(chunk: number, visit: (piece: ScanPiece) => boolean | undefined): void {
    const bytes = new Uint8Array(chunk);
    const view = new DataView(bytes.buffer);
    for (const span of populatedSpans(this.layout)) {
      for (let done = 0; done < span.length; done += chunk) {
        const gpa = span.gpa + done;
        const wanted = Math.min(chunk, span.length - done);
        const position = span.range.offset + (gpa - span.range.gpa);
        const length = this.#read(span.range.backing, bytes.subarray(0, wanted), position);
        if (length > 0 && visit({ gpa, length, bytes, view, index: 0 })) return;
      }
    }
  }

  copy(gpa: number, length: number): Uint8Array | undefined {
    if (!this.contains(gpa, length)) return undefined;
    const target = new Uint8Array(length);
    return this.copyTo(gpa, target) ? target : undefined;
  }

  copyTo(gpa: number, target: Uint8Array): boolean {
    const range = rangeOf(this.layout.ranges, gpa);
    if (range === undefined || !this.contains(gpa, target.length)) return false;
    return this.#read(range.backing, target, range.offset + (gpa - range.gpa)) === target.length;
  }

  /** A second copy, of the page as it is now; the first stays, since a caller may hold an index into it. */
  current(gpa: number): number {
    const gfn = Math.floor(gpa / PAGE_SIZE);
    const page = gfn * PAGE_SIZE;
    let slot = this.#current.get(gfn);
    if (slot === undefined) {
      const range = rangeOf(this.layout.ranges, page);
      if (range === undefined) return -1;
      if (this.#current.size === CURRENT_SLOTS) this.#current.clear();
      slot = SLOTS + this.#current.size;
      const target = this.bytes.subarray(slot << PAGE_SHIFT, (slot + 1) << PAGE_SHIFT);
      if (this.#read(range.backing, target, range.offset + (page - range.gpa)) !== PAGE_SIZE) return -1;
      this.#current.set(gfn, slot);
    }
    return slot * PAGE_SIZE + (gpa - page);
  }

  refresh(): void {
    this.#current.clear();
  }

  dropCaches(): void {
    this.#keys.fill(0);
    this.#loaded = 0;
  }

  [Symbol.dispose](): void {}
}

/** Reads by descriptor: pread for every backing. Bytes that the hypervisor process can't give end the read early. */
export function readerOf(backings: readonly Backing[]): BackingReader {
  return (backing, target, position) => {
    const { fd } = backings[backing] as Backing;
    let done = 0;
    try {
      while (done < target.length) {
        const count = readSync(fd, target, done, target.length - done, position + done);
        if (count === 0) break;
        done += count;
      }
    } catch (error) {
      // EIO: the page is not there; the guest's process may also have ended.
      if (!(error instanceof Error && "code" in error)) throw error;
    }
    return done;
  };
}
