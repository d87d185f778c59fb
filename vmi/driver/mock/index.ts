/**
 * A driver for tests: it reads as another would, writes down what was read, and makes reads go wrong as told. What a
 * running guest does to a reader by chance, happens here on purpose and again.
 */
import { type BackingReader, PagedMemory } from "../../memory/paged-memory.ts";
import type { PhysicalMemory } from "../../memory/physical-memory.ts";
import type { GuestMemoryLayout } from "../driver.ts";

/** What goes wrong with one read. */
export type Fault =
  /** Nothing can be read: the page is not there, or the hypervisor has ended. */
  | { readonly kind: "missing" }
  /** Only the first bytes can be read. */
  | { readonly kind: "short"; readonly length: number }
  /** The bytes are others. `change` gets them to alter in place, and the guest physical address of the first. */
  | { readonly kind: "changed"; readonly change: (bytes: Uint8Array, gpa: number) => void }
  /** The guest wrote meanwhile: from the byte `at` on they are of another instant. */
  | { readonly kind: "torn"; readonly at: number; readonly later: BackingReader };

/** One read. */
export interface Access {
  readonly gpa: number;
  readonly length: number;
  /** Bytes that could be read. */
  readonly got: number;
  readonly fault: Fault["kind"] | undefined;
}

export interface MockOptions {
  readonly layout: GuestMemoryLayout;
  /** Where the bytes come from. */
  readonly read: BackingReader;
  /** Asked before every read, with how many there were before; undefined lets it pass. */
  readonly fault?: (gpa: number, length: number, earlier: number) => Fault | undefined;
}

export interface MockDriver {
  readonly memory: PhysicalMemory;
  /** Every read so far, in order. */
  readonly accesses: readonly Access[];
  /** Forgets the reads so far. */
  forget(): void;
}

/** Guest memory whose reads are recorded and can fail. */
export function mockDriver({ layout, read, fault }: MockOptions): MockDriver {
  const accesses: Access[] = [];
  const memory = new PagedMemory(layout, (backing, target, position) => {
    const gpa = gpaOf(layout, backing, position);
    const chosen = fault?.(gpa, target.length, accesses.length);
    const got = readFaulty(read, chosen, backing, target, position, gpa);
    accesses.push({ gpa, length: target.length, got, fault: chosen?.kind });
    return got;
  });
  const forget = () => {
    accesses.length = 0;
  };
  return { memory, accesses, forget };
}

/** Reads from RAM held in a buffer: position N of backing 0 is its byte N. */
export function bufferReader(ram: Uint8Array): BackingReader {
  return (_, target, position) => {
    const bytes = ram.subarray(position, position + target.length);
    target.set(bytes);
    return bytes.length;
  };
}

function readFaulty(
  read: BackingReader,
  fault: Fault | undefined,
  backing: number,
  target: Uint8Array,
  position: number,
  gpa: number,
): number {
  switch (fault?.kind) {
    case "missing":
      return 0;
    case "short":
      return read(backing, target.subarray(0, fault.length), position);
    case "changed": {
      const got = read(backing, target, position);
      fault.change(target.subarray(0, got), gpa);
      return got;
    }
    case "torn": {
      const got = read(backing, target, position);
      const at = Math.min(fault.at, got);
      return at + fault.later(backing, target.subarray(at, got), position + at);
    }
    case undefined:
      return read(backing, target, position);
  }
}

function gpaOf(layout: GuestMemoryLayout, backing: number, position: number): number {
  for (const range of layout.ranges) {
    const within = position - range.offset;
    if (range.backing === backing && within >= 0 && within < range.length) return range.gpa + within;
  }
  throw new RangeError(`position ${position} of backing ${backing} is no guest memory`);
}
