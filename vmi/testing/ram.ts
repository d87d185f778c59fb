import { PAGE_SIZE } from "../bytes/address.ts";
import type { GuestMemoryLayout } from "../driver/driver.ts";
import { MappedMemory } from "../memory/mapped-memory.ts";
import { type BackingReader, PagedMemory } from "../memory/paged-memory.ts";
import { SCRATCH_SIZE } from "../memory/physical-memory.ts";

/** A made-up guest's RAM in an ArrayBuffer: a byte's index is its guest physical address. Pages are given out in turn. */
export class Ram {
  readonly layout: GuestMemoryLayout;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
  readonly end: number;
  #next: number;

  /** @param spans `[gpa, length]` of each range, ascending */
  constructor(spans: readonly (readonly [number, number])[]) {
    const ranges = spans.map(([gpa, length]) => ({ gpa, length, backing: 0, offset: gpa }));
    this.layout = { ranges, backings: [{ kind: "file", fd: -1 }] };
    const last = ranges.at(-1)!;
    this.end = last.gpa + last.length;
    const buffer = new ArrayBuffer(this.end + SCRATCH_SIZE);
    this.bytes = new Uint8Array(buffer);
    this.view = new DataView(buffer);
    this.#next = ranges[0]!.gpa;
  }

  /** Guest physical address of unused bytes, in whole pages of one range. */
  take(length = PAGE_SIZE, alignment = PAGE_SIZE): number {
    for (const range of this.layout.ranges) {
      const start = Math.ceil(Math.max(this.#next, range.gpa) / alignment) * alignment;
      if (start + length > range.gpa + range.length) continue;
      this.#next = start + Math.ceil(length / PAGE_SIZE) * PAGE_SIZE;
      return start;
    }
    throw new Error("the test's RAM is too small");
  }

  u64(gpa: number): bigint {
    return this.view.getBigUint64(gpa, true);
  }

  setU64(gpa: number, value: bigint): void {
    this.view.setBigUint64(gpa, BigInt.asUintN(64, value), true);
  }

  /** Seen as an inspector sees shared RAM. */
  mapped(): MappedMemory {
    return new MappedMemory(this.layout, this.bytes, this.end, () => {});
  }

  /** Seen as an inspector sees another process's memory; pages for which `fails` is true can't be read. */
  paged(fails: (gpa: number) => boolean = () => false): PagedMemory {
    return new PagedMemory(this.layout, this.reader(fails));
  }

  reader(fails: (gpa: number) => boolean = () => false): BackingReader {
    return (_, target, position) => {
      let done = 0;
      while (done < target.length && !fails(position + done)) {
        const count = Math.min(target.length - done, PAGE_SIZE);
        target.set(this.bytes.subarray(position + done, position + done + count), done);
        done += count;
      }
      return done;
    };
  }
}
