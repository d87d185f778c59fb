import { type Halves, signedNumberOf } from "../bytes/address.ts";
import type { Kernel } from "./kernel.ts";

/**
 * What was read of objects, kept for the rest of one request: many mappings are of one file, many processes run one
 * program. With each goes what was followed to it (see Trail), which the unit that takes it again has to find unchanged.
 */
export class Memo<T> {
  readonly #kernel: Kernel;
  /** By address: kernel addresses are exact enough as numbers to tell objects apart. */
  readonly #known = new Map<number, { readonly value: T; readonly trail: Int32Array }>();
  #retried: number;

  constructor(kernel: Kernel) {
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
      this.#retried = trail.retried;
    }
    const key = signedNumberOf(at.hi, at.lo);
    const known = this.#known.get(key);
    if (known !== undefined) {
      trail.append(known.trail);
      return known.value;
    }
    const from = trail.position;
    const value = read();
    this.#known.set(key, { value, trail: trail.since(from) });
    return value;
  }
}
