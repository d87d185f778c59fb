import { PTE_PRESENT, PTE_PROTNONE } from "../arch/x86-64.ts";
import { addHi, addLo, PAGE_SIZE } from "../bytes/address.ts";
import { frameOf, isLeaf, PageTables, tableIndex, tableOf } from "./page-tables.ts";
import { SCRATCH_SIZE } from "./physical-memory.ts";
import type { Trail } from "./trail.ts";

const SMALL_SLOTS = 1024;
const LARGE_SLOTS = 256;
const LARGE_SIZE = 1 << 21;
const REGION_SIZE = 1 << 30;
/** Set in a tag, whose page offset bits are free, to tell it from an empty slot. */
const VALID = 1;

/**
 * One tree of page tables over a guest's physical memory, with a software TLB. `resolve` is the engine's hot path: it
 * gives an index into `memory.view`.
 */
export class AddressSpace extends PageTables {
  /** Where pointers that are read here are written down; see linux/read.ts. Processes' memory has none: it is theirs to change. */
  trail: Trail | undefined;
  readonly #direct = this.memory.direct;
  readonly #smallHi = new Int32Array(SMALL_SLOTS);
  readonly #smallLo = new Int32Array(SMALL_SLOTS);
  readonly #smallGpa = new Float64Array(SMALL_SLOTS);
  readonly #largeHi = new Int32Array(LARGE_SLOTS);
  readonly #largeLo = new Int32Array(LARGE_SLOTS);
  readonly #largeGpa = new Float64Array(LARGE_SLOTS);
  // The table for the 1 GiB that was walked last: the upper levels of most walks are the same.
  #regionHi = 0;
  #regionLo = 0;
  #regionTable = -1;
  // And that for the 2 MiB, of which a process's memory is read page after page.
  #leafHi = 0;
  #leafLo = 0;
  #leafTable = -1;
  #scratchUsed = 0;
  #leafShift = 0;

  /** Another address space of the same memory and processor, with a TLB of its own. */
  sibling(): AddressSpace {
    return new AddressSpace(this.memory, this.mmu, this.pgd, this.smeMask);
  }

  /** Turns this into the address space below another top table: the tables of one process after another need no new TLB. */
  switchTo(pgd: number): void {
    this.pgd = pgd;
    this.flush();
  }

  /** Forgets every translation. */
  flush(): void {
    this.#smallLo.fill(0);
    this.#largeLo.fill(0);
    this.#regionTable = -1;
    this.#leafTable = -1;
  }

  /**
   * Index into `memory.view` of the byte at a virtual address, good to the end of its page; -1 when it is not mapped to
   * RAM. Like borrow(), short enough to be compiled into its callers: what is rare is a call away.
   */
  resolve(hi: number, lo: number): number {
    const slot = (lo >>> 21) & (LARGE_SLOTS - 1);
    return this.#largeLo[slot] === ((lo & -LARGE_SIZE) | VALID) && this.#largeHi[slot] === hi
      ? this.#largeGpa[slot]! + (lo & (LARGE_SIZE - 1))
      : this.#resolveSmall(hi, lo);
  }

  #resolveSmall(hi: number, lo: number): number {
    const slot = (lo >>> 12) & (SMALL_SLOTS - 1);
    if (this.#smallLo[slot] === ((lo & -PAGE_SIZE) | VALID) && this.#smallHi[slot] === hi) {
      const gpa = this.#smallGpa[slot]! + (lo & (PAGE_SIZE - 1));
      return this.#direct ? gpa : this.memory.locate(gpa);
    }
    return this.#fill(hi, lo);
  }

  #fill(hi: number, lo: number): number {
    const gpa = this.#walk(hi, lo);
    if (gpa < 0) return -1;
    const index = this.memory.locate(gpa);
    if (index < 0) return -1;
    if (this.#direct && this.#leafShift >= 21) {
      const base = gpa - (lo & (LARGE_SIZE - 1));
      if (this.memory.contains(base, LARGE_SIZE)) {
        const slot = (lo >>> 21) & (LARGE_SLOTS - 1);
        this.#largeHi[slot] = hi;
        this.#largeLo[slot] = (lo & -LARGE_SIZE) | VALID;
        this.#largeGpa[slot] = base;
        return index;
      }
    }
    const slot = (lo >>> 12) & (SMALL_SLOTS - 1);
    this.#smallHi[slot] = hi;
    this.#smallLo[slot] = (lo & -PAGE_SIZE) | VALID;
    this.#smallGpa[slot] = gpa - (lo & (PAGE_SIZE - 1));
    return index;
  }

  /**
   * Guest physical address by the page tables; -1 when there is none. Leaves the size of the page behind in #leafShift.
   * A PROT_NONE page is followed too: it is there, though the processor may not use it.
   */
  #walk(hi: number, lo: number): number {
    const sign = hi >> (this.mmu.virtualBits - 33);
    if (sign !== 0 && sign !== -1) return -1;
    const { memory } = this;
    const { view } = memory;
    const { shifts } = this.mmu;
    const { smeMaskHi } = this;
    let table = this.pgd;
    let level = 0;
    if (this.#leafTable >= 0 && hi === this.#leafHi && (lo & -LARGE_SIZE) === this.#leafLo) {
      table = this.#leafTable;
      level = shifts.length - 1;
    } else if (this.#regionTable >= 0 && hi === this.#regionHi && (lo & -REGION_SIZE) === this.#regionLo) {
      table = this.#regionTable;
      level = shifts.length - 2;
    }
    for (; level < shifts.length; level++) {
      const shift = shifts[level]!;
      const at = memory.locate(table + tableIndex(hi, lo, shift) * 8);
      if (at < 0) return -1;
      const entryLo = view.getInt32(at, true);
      const entryHi = view.getInt32(at + 4, true) & smeMaskHi;
      if ((entryLo & PTE_PRESENT) === 0) {
        // NUMA balancing and mprotect leave large pages so too (pmd_protnone).
        if (!isLeaf(shift, entryLo) || (entryLo & PTE_PROTNONE) === 0) return -1;
        // L1TF: the frame number of an entry that is not present is stored inverted (arch/x86/include/asm/pgtable-invert.h).
        this.#leafShift = shift;
        return frameOf(shift, ~entryHi & smeMaskHi, ~entryLo, lo);
      }
      if (isLeaf(shift, entryLo)) {
        this.#leafShift = shift;
        return frameOf(shift, entryHi, entryLo, lo);
      }
      table = tableOf(entryHi, entryLo);
      if (shift === 30) {
        this.#regionHi = hi;
        this.#regionLo = lo & -REGION_SIZE;
        this.#regionTable = table;
      } else if (shift === 21) {
        this.#leafHi = hi;
        this.#leafLo = lo & -LARGE_SIZE;
        this.#leafTable = table;
      }
    }
    return -1;
  }

  /**
   * Index into `memory.view` of `length` bytes in a row: in place where they lie so, otherwise a copy in the scratch
   * area, good for the next few borrowings. -1 when a byte of them can't be read.
   */
  borrow(hi: number, lo: number, length: number): number {
    const slot = (lo >>> 21) & (LARGE_SLOTS - 1);
    return this.#largeLo[slot] === ((lo & -LARGE_SIZE) | VALID) &&
      this.#largeHi[slot] === hi &&
      (lo & (LARGE_SIZE - 1)) + length <= LARGE_SIZE
      ? this.#largeGpa[slot]! + (lo & (LARGE_SIZE - 1))
      : this.#borrowSmall(hi, lo, length);
  }

  #borrowSmall(hi: number, lo: number, length: number): number {
    const index = this.resolve(hi, lo);
    return index < 0 || (lo & (PAGE_SIZE - 1)) + length <= PAGE_SIZE ? index : this.#span(hi, lo, length, index);
  }

  /** `index` is where the first byte is; the last is on another page. */
  #span(hi: number, lo: number, length: number, index: number): number {
    if (!this.#direct) return this.#gather(hi, lo, length);
    if ((lo & (LARGE_SIZE - 1)) + length <= LARGE_SIZE) {
      const slot = (lo >>> 21) & (LARGE_SLOTS - 1);
      if (this.#largeLo[slot] === ((lo & -LARGE_SIZE) | VALID) && this.#largeHi[slot] === hi) return index;
    }
    // Neighbours in virtual memory mostly are neighbours in physical memory too: then nothing needs to be copied.
    for (let done = PAGE_SIZE - (lo & (PAGE_SIZE - 1)); done < length; done += PAGE_SIZE) {
      if (this.resolve(addHi(hi, lo, done), addLo(lo, done)) !== index + done) return this.#gather(hi, lo, length);
    }
    return index;
  }

  /**
   * As borrow, for what has to stay good while much else is looked at: where memory is copied page by page, it gets a
   * copy of its own, good until as many bytes as the scratch area has were copied so.
   */
  hold(hi: number, lo: number, length: number): number {
    return this.#direct ? this.borrow(hi, lo, length) : this.#gather(hi, lo, length);
  }

  #gather(hi: number, lo: number, length: number): number {
    if (length > SCRATCH_SIZE / 4) throw new RangeError(`${length} bytes are more than a structure may have`);
    if (this.#scratchUsed + length > SCRATCH_SIZE) this.#scratchUsed = 0;
    const target = this.memory.scratch + this.#scratchUsed;
    this.#scratchUsed += (length + 7) & ~7;
    const { bytes } = this.memory;
    return this.read(hi, lo, bytes.subarray(target, target + length)) === length ? target : -1;
  }

  /**
   * A copy of `length` bytes as they are now, past what this request has kept of their pages; undefined when one of
   * them can't be read.
   */
  reread(hi: number, lo: number, length: number): Uint8Array | undefined {
    const target = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const pageLo = addLo(lo, done);
      const count = Math.min(length - done, PAGE_SIZE - (pageLo & (PAGE_SIZE - 1)));
      const gpa = this.#walk(addHi(hi, lo, done), pageLo);
      const bytes = gpa < 0 ? undefined : this.memory.copy(gpa, count);
      if (bytes === undefined) return undefined;
      target.set(bytes, done);
      done += count;
    }
    return target;
  }

  /** As resolve, for the byte as it is now; that the address is mapped where it was is taken as known. */
  current(hi: number, lo: number): number {
    if (this.#direct) return this.resolve(hi, lo);
    const gpa = this.physical(hi, lo);
    return gpa < 0 ? -1 : this.memory.current(gpa);
  }

  /** Guest physical address; -1 when an address is not mapped. It need not be RAM. */
  physical(hi: number, lo: number): number {
    const slot = (lo >>> 12) & (SMALL_SLOTS - 1);
    const known = this.#smallLo[slot] === ((lo & -PAGE_SIZE) | VALID) && this.#smallHi[slot] === hi;
    return known ? this.#smallGpa[slot]! + (lo & (PAGE_SIZE - 1)) : this.#walk(hi, lo);
  }

  /** Copies from a virtual address on until `target` is full or a page is missing; returns the bytes copied. */
  read(hi: number, lo: number, target: Uint8Array): number {
    let done = 0;
    while (done < target.length) {
      const pageHi = addHi(hi, lo, done);
      const pageLo = addLo(lo, done);
      const index = this.resolve(pageHi, pageLo);
      if (index < 0) break;
      const count = Math.min(target.length - done, PAGE_SIZE - (pageLo & (PAGE_SIZE - 1)));
      target.set(this.memory.bytes.subarray(index, index + count), done);
      done += count;
    }
    return done;
  }
}
