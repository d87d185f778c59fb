import type { Halves } from "../bytes/address.ts";
import { AddressMap } from "../bytes/address-map.ts";
import type { Kernel } from "./kernel.ts";

const FIRST = 4096;

interface Known<T> {
  readonly value: T;
  /** Of what was followed to it. */
  readonly start: number;
  readonly end: number;
  /** In which stretch of the trail that was written down last; undefined for one in which it was kept for something else. */
  stretch: number | undefined;
}

/**
 * What was read of objects, kept for the rest of one request: many mappings are of one file, many processes run one
 * program. With each goes what was followed to it (see Trail), which the unit that takes it again has to find unchanged.
 */
export class Memo<T> {
  readonly #kernel: Pick<Kernel, "trail">;
  readonly #known = new AddressMap<Known<T>>();
  /** What was followed to each: in one array, as a small one for each would lie outside the heap, where V8 leaves it for long. */
  #followed = new Int32Array(FIRST);
  #used = 0;
  #retried: number;

  constructor(kernel: Pick<Kernel, "trail">) {
    this.#kernel = kernel;
    this.#retried = kernel.trail.retried;
  }

  /** @param read reads the object at the address, with pointers in the kernel's own memory only */
  of(at: Halves, read: () => T): T {
    const { trail } = this.#kernel;
    // Without a unit nobody would look whether it is still so.
    if (!trail.recording) return read();
    // Something was not what it had been: it may be what is kept here.
    if (trail.retried !== this.#retried) {
      this.#known.clear();
      this.#used = 0;
      this.#retried = trail.retried;
    }
    const known = this.#known.get(at);
    if (known !== undefined) {
      const { stretch } = trail;
      if (stretch === undefined || known.stretch !== stretch) {
        trail.append(this.#followed, known.start, known.end);
        known.stretch = stretch;
      }
      return known.value;
    }
    const from = trail.position;
    const { drops } = trail;
    const value = trail.keeping(read);
    if (trail.drops !== drops) return value;
    const start = this.#used;
    this.#keep(trail.since(from));
    this.#known.set(at, { value, start, end: this.#used, stretch: trail.stretch });
    return value;
  }

  #keep(followed: Int32Array): void {
    if (this.#used + followed.length > this.#followed.length) {
      const larger = new Int32Array(Math.max(this.#followed.length * 2, this.#used + followed.length));
      larger.set(this.#followed.subarray(0, this.#used));
      this.#followed = larger;
    }
    this.#followed.set(followed, this.#used);
    this.#used += followed.length;
  }
}
