import type { Halves } from "./address.ts";

/**
 * Values by address. As one number an address would be a key that has no small integer: such are looked up several times more
 * slowly. Its halves are, and few objects of a kernel differ in the upper one.
 */
export class AddressMap<T> {
  readonly #byHi = new Map<number, Map<number, T>>();
  #hi = 0;
  /** Of `#hi`. */
  #byLo: Map<number, T> | undefined;

  get({ hi, lo }: Halves): T | undefined {
    return this.#of(hi)?.get(lo);
  }

  set({ hi, lo }: Halves, value: T): void {
    let byLo = this.#of(hi);
    if (byLo === undefined) {
      byLo = new Map();
      this.#byHi.set(hi, byLo);
      this.#byLo = byLo;
    }
    byLo.set(lo, value);
  }

  clear(): void {
    this.#byHi.clear();
    this.#byLo = undefined;
  }

  #of(hi: number): Map<number, T> | undefined {
    if (this.#hi !== hi || this.#byLo === undefined) {
      this.#hi = hi;
      this.#byLo = this.#byHi.get(hi);
    }
    return this.#byLo;
  }
}
