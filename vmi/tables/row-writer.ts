import type { Budget } from "../budget.ts";
import type { Kernel } from "../linux/kernel.ts";
import { type AnyColumn, tooLarge } from "./columns.ts";
import type { TableContext } from "./table.ts";

/** An answer larger than this is refused: it would not fit an inspector's memory. */
const MAX_ANSWER_BYTES = 64 << 20;
const MAX_ROWS = 4 << 20;
/** Rows between two looks at the answer's size. */
const STRIDE = 1024;
/** Readings of a unit. */
const ATTEMPTS = 3;

/** A row is wanted when each column has one of the values. */
export interface RowFilter {
  readonly column: AnyColumn;
  readonly values: ReadonlySet<string>;
}

/** The rows of one answer as they come: which of them are kept, and which are taken back. */
export class RowWriter implements Pick<TableContext, "row" | "rows" | "discard" | "unit" | "retried" | "incomplete"> {
  readonly notes: string[] = [];
  /** Readings that were begun anew because the guest changed what was read. */
  retries = 0;
  readonly #kernel: Kernel;
  readonly #budget: Budget;
  readonly #columns: readonly AnyColumn[];
  readonly #filters: readonly RowFilter[];
  readonly #limit: number;
  #written = 0;
  /** Of the rows written, those to be kept; undefined for all. */
  #kept: number[] | undefined;
  /** While rows of a unit are checked one by one: where on the trail the row began, and the first row ended. */
  #strict: { from: number; first: number | undefined } | undefined;

  constructor(
    kernel: Kernel,
    budget: Budget,
    columns: readonly AnyColumn[],
    filters: readonly RowFilter[],
    limit: number,
  ) {
    this.#kernel = kernel;
    this.#budget = budget;
    this.#columns = columns;
    this.#filters = filters;
    this.#limit = limit;
    this.#kept = filters.length > 0 ? [] : undefined;
  }

  row(): boolean {
    const strict = this.#strict;
    // Nearly always: no more than a count.
    if (strict === undefined && this.#kept === undefined) {
      if (++this.#written % STRIDE === 0) this.#checkSize();
      return this.#written < this.#limit;
    }
    if (strict !== undefined) {
      const { trail } = this.#kernel;
      strict.first ??= trail.position;
      const held = trail.holds(strict.from);
      strict.from = trail.position;
      trail.startStretch();
      if (!held) {
        this.discard();
        return true;
      }
    }
    return this.rows(1);
  }

  rows(count: number, without?: (row: number) => boolean): boolean {
    const from = this.#written;
    for (let i = 0; (this.#kept ?? without) !== undefined && i < count; i++) {
      const row = from + i;
      if (without?.(i)) this.#kept ??= Array.from({ length: row }, (_, earlier) => earlier);
      else if (this.#filters.every(({ column, values }) => column.isOneOf(row, values))) this.#kept?.push(row);
    }
    if (Math.trunc((from + count) / STRIDE) > Math.trunc(from / STRIDE)) this.#checkSize();
    this.#written += count;
    return (this.#kept?.length ?? this.#written) < this.#limit;
  }

  discard(): void {
    for (const column of this.#columns) column.truncate(this.#written);
  }

  unit(what: () => string, read: (last: boolean) => boolean): boolean {
    const { trail } = this.#kernel;
    const { length: notes } = this.notes;
    const written = this.#written;
    const kept = this.#kept?.length;
    for (let attempt = 1; ; attempt++) {
      const from = trail.begin();
      const last = attempt === ATTEMPTS;
      const strict = last ? { from, first: undefined as number | undefined } : undefined;
      this.#strict = strict;
      trail.covered = !last;
      try {
        const more = read(last);
        if (trail.holds(from)) return more;
        trail.retried++;
        // What led to the first row led to all of them.
        if (!last || !trail.holds(from, strict?.first)) this.#takeBack(written, kept, notes);
        if (last) {
          this.incomplete(`${what()} kept changing while it was read`);
          return more;
        }
      } finally {
        this.#strict = undefined;
        trail.covered = false;
        trail.end(from);
      }
      this.#budget.spend();
      this.#kernel.dropCaches();
    }
  }

  #takeBack(written: number, kept: number | undefined, notes: number): void {
    this.#written = written;
    if (this.#kept !== undefined) this.#kept = this.#kept.slice(0, kept ?? written);
    this.notes.length = notes;
    this.discard();
  }

  retried(times: number): void {
    this.retries += times;
  }

  incomplete(note: string): void {
    if (!this.notes.includes(note)) this.notes.push(note);
  }

  /** The rows to give; undefined for all that were written. */
  finish(): { rows: number; keep: readonly number[] | undefined } {
    this.#checkSize();
    const over = this.#written > this.#limit;
    const all = over && this.#kept === undefined ? Array.from({ length: this.#limit }, (_, row) => row) : this.#kept;
    const keep = all?.slice(0, this.#limit);
    return { rows: keep?.length ?? this.#written, keep };
  }

  #checkSize(): void {
    let size = 0;
    for (const column of this.#columns) size += column.size;
    if (this.#written > MAX_ROWS || size > MAX_ANSWER_BYTES) throw tooLarge();
  }
}
