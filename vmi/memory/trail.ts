import { PAGE_SIZE } from "../bytes/address.ts";
import type { PhysicalMemory } from "./physical-memory.ts";

/**
 * hi and lo of the place, hi and lo of what was there, and how many bytes that are. A place is an address; where memory is looked
 * at in place, the index of it in the memory's view.
 */
const FIELDS = 5;
const U32 = 0x1_0000_0000;
const FIRST = 256;
/** Places of one unit, at most: 5 MiB of them. */
const MAX_PLACES = 1 << 18;

/** Where the places are; see AddressSpace. */
interface Places {
  readonly memory: PhysicalMemory;
  current(hi: number, lo: number): number;
}

/**
 * The pointers that were followed on the way to something, and what they were. A guest goes on while it is read, and
 * frees and reuses memory: what was read counts if every pointer that led to it is still the same afterwards (as a
 * reader of the kernel's own checks a sequence count). Read anew, it counts then.
 *
 * Recording costs a few nanoseconds a pointer, and happens only between begin() and end(). Units may be within others.
 */
export class Trail {
  /** How often something had to be read anew, since whoever counts set it to 0. */
  retried = 0;
  /** What is followed now is looked at again by the unit around, all of it, and read anew where it has changed. */
  covered = false;
  readonly #places: Places;
  readonly #direct: boolean;
  readonly #scratch: number;
  #entries = new Int32Array(FIRST * FIELDS);
  #used = 0;
  /** Fields of what there was no room for: it was checked when it was dropped. */
  #dropped = 0;
  /** Some of that had changed. */
  #broken = false;
  #depth = 0;
  #stretch = 0;
  #keeping = 0;
  #drops = 0;

  /** @param places where what is written down was read */
  constructor(places: Places) {
    this.#places = places;
    this.#direct = places.memory.direct;
    this.#scratch = places.memory.scratch;
  }

  /**
   * A number that is the same as long as what was written down is still there to be checked, all of it at once: what is
   * followed again meanwhile need not be written down again. Undefined while what is followed is kept for later (see
   * keeping), which has to have all of it.
   */
  get stretch(): number | undefined {
    return this.#keeping > 0 ? undefined : this.#stretch;
  }

  /** How often there was no room: `since` has not all that was followed where it changes meanwhile. */
  get drops(): number {
    return this.#drops;
  }

  /** Does what `since` is asked about afterwards. */
  keeping<T>(work: () => T): T {
    this.#keeping++;
    try {
      return work();
    } finally {
      this.#keeping--;
    }
  }

  /** From here on what was followed is checked by itself. */
  startStretch(): void {
    this.#stretch++;
  }

  get recording(): boolean {
    return this.#depth > 0;
  }

  /** Where the next pointer comes to stand. */
  get position(): number {
    return this.#dropped + this.#used;
  }

  /** Starts a unit; end() wants what this returns. */
  begin(): number {
    if (this.#depth++ === 0) {
      this.#stretch++;
      this.#used = 0;
      this.#dropped = 0;
      this.#broken = false;
    }
    return this.position;
  }

  /** Ends the unit, and keeps of it what was followed up to a position for the unit that it is within. */
  end(from: number, until = from): void {
    this.#depth--;
    const used = Math.max(0, Math.min(this.#used, until - this.#dropped));
    if (used < this.#used) this.#stretch++;
    this.#used = used;
  }

  /**
   * A pointer at an address. One that lies on two pages is left out: no member of a structure does.
   *
   * @param index where it was read in the memory's view, if that is known
   */
  pointer(hi: number, lo: number, valueHi: number, valueLo: number, index = -1): void {
    if ((lo & 0xfff) <= 0xff8) this.#noteAt(hi, lo, index, valueHi, valueLo, 8);
  }

  u32(hi: number, lo: number, value: number, index = -1): void {
    if ((lo & 0xfff) <= 0xffc) this.#noteAt(hi, lo, index, 0, value, 4);
  }

  #noteAt(hi: number, lo: number, index: number, valueHi: number, valueLo: number, width: number): void {
    if (!this.#direct) {
      this.#note(hi, lo, valueHi, valueLo, width);
      return;
    }
    // What was gathered from two pages was read in a copy.
    const at = index >= 0 && index < this.#scratch ? index : this.#places.current(hi, lo);
    this.#note(Math.floor(at / U32), at | 0, valueHi, valueLo, width);
  }

  #note(hi: number, lo: number, valueHi: number, valueLo: number, width: number): void {
    const at = this.#used;
    if (at + FIELDS > this.#entries.length) {
      this.#makeRoom();
      this.#note(hi, lo, valueHi, valueLo, width);
      return;
    }
    const entries = this.#entries;
    entries[at] = hi;
    entries[at + 1] = lo;
    entries[at + 2] = valueHi;
    entries[at + 3] = valueLo;
    entries[at + 4] = width;
    this.#used = at + FIELDS;
  }

  #makeRoom(): void {
    if (this.#entries.length < MAX_PLACES * FIELDS) {
      const entries = new Int32Array(this.#entries.length * 2);
      entries.set(this.#entries);
      this.#entries = entries;
      return;
    }
    this.#stretch++;
    this.#drops++;
    this.#broken ||= !this.holds(this.#dropped);
    this.#dropped += this.#used;
    this.#used = 0;
  }

  /** What was followed since a position, to be kept and appended again: good until the next is written down. */
  since(from: number): Int32Array {
    return this.#entries.subarray(Math.max(0, from - this.#dropped), this.#used);
  }

  /** Writes down what `since` gave before: of `followed`, from `start` to `end`. */
  append(followed: Int32Array, start: number, end: number): void {
    while (this.#used + end - start > this.#entries.length) this.#makeRoom();
    const entries = this.#entries;
    // Mostly a few places: making an object for a part of an array takes longer.
    let used = this.#used;
    for (let at = start; at < end; at++) entries[used++] = followed[at]!;
    this.#used = used;
  }

  /** True when what was followed from one position to another is the same now. */
  holds(from: number, to = this.position): boolean {
    if (this.#broken) return false;
    const start = Math.max(0, from - this.#dropped);
    const end = to - this.#dropped;
    return this.#direct ? this.#holdsInPlace(start, end) : this.#holdsNow(start, end);
  }

  #holdsInPlace(start: number, end: number): boolean {
    const { view } = this.#places.memory;
    const entries = this.#entries;
    for (let at = start; at < end; at += FIELDS) {
      const index = entries[at]! * U32 + (entries[at + 1]! >>> 0);
      if (index < 0 || view.getInt32(index, true) !== entries[at + 3]) return false;
      if (entries[at + 4] === 8 && view.getInt32(index + 4, true) !== entries[at + 2]) return false;
    }
    return true;
  }

  #holdsNow(start: number, end: number): boolean {
    const { memory } = this.#places;
    const { view } = memory;
    const entries = this.#entries;
    memory.refresh();
    // Members of one structure come one after the other.
    let pageHi = 0;
    let pageLo = 0;
    let page = -1;
    for (let at = start; at < end; at += FIELDS) {
      const hi = entries[at]!;
      const lo = entries[at + 1]!;
      if (page < 0 || (lo & -PAGE_SIZE) !== pageLo || hi !== pageHi) {
        pageHi = hi;
        pageLo = lo & -PAGE_SIZE;
        page = this.#places.current(pageHi, pageLo);
      }
      const index = page < 0 ? -1 : page + (lo & (PAGE_SIZE - 1));
      if (index < 0 || view.getInt32(index, true) !== entries[at + 3]) return false;
      if (entries[at + 4] === 8 && view.getInt32(index + 4, true) !== entries[at + 2]) return false;
    }
    return true;
  }
}
