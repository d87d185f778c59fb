import { GuestError } from "./errors.ts";

/** Steps between two looks at the clock. */
const STRIDE = 4096;

/** What one request may use. Everything that loops over guest memory spends from it, so a hostile guest can't make it endless. */
export class Budget {
  readonly deadline: number;
  #left: number;
  #untilLook = STRIDE;

  /**
   * @param milliseconds until the request is given up
   * @param steps list elements, table entries or pages that may be visited
   */
  constructor(milliseconds = 10_000, steps = 50_000_000) {
    this.deadline = performance.now() + milliseconds;
    this.#left = steps;
  }

  /** Steps that have not been spent. */
  get left(): number {
    return Math.max(0, this.#left);
  }

  /** Another with the same deadline and so many steps: what is spent of it counts here only once it is spent here too. */
  part(steps: number): Budget {
    return new Budget(this.deadline - performance.now(), steps);
  }

  /** Throws GuestError "over-budget" or "deadline". */
  spend(steps = 1): void {
    this.#left -= steps;
    this.#untilLook -= steps;
    if (this.#untilLook <= 0) this.#look();
  }

  #look(): void {
    this.#untilLook = STRIDE;
    if (this.#left <= 0) {
      throw new GuestError(
        "over-budget",
        "the guest's structures are larger than one request may walk; narrow the question",
      );
    }
    if (performance.now() > this.deadline) {
      throw new GuestError("deadline", "the guest took too long to read; narrow the question or allow more time");
    }
  }
}
