// Rows in the order in which a cursor goes through them: VM by VM, those of an index or all that there are.
import { type Batch, type Cells, KIND } from "./batch.ts";
import { type Index, indexedRows, type Part, type Relation } from "./relation.ts";
import type { Heap, Sqlite } from "./sqlite.ts";

/** What the cell of an integer column must equal. Beyond what a number holds exactly, whole ones are bigints. */
export type Key = number | bigint;

/** Which rows of a VM are gone through. */
export interface Search {
  /** The column of a batch that rows are looked up by; negative: none. */
  slot: number;
  /** The rows looked up have one of these (`hashNumber`, `hashText`), or one that shares its bucket. */
  hashes: readonly number[];
  /** What rows are compared with here: column of a batch, key. */
  readonly checks: { readonly slot: number; readonly key: Key }[];
}

const nothing: Part = { batches: [], starts: [], rows: 0, indexes: new Map() };

export class Rows {
  /** The row under the cursor; undefined at the end. */
  batch: Batch | undefined;
  row = 0;
  vm = 0;
  readonly search: Search = { slot: -1, hashes: [], checks: [] };
  readonly #sqlite: Sqlite;
  #relation: Relation | undefined;
  #vms: readonly number[] = [];
  #vmAt = 0;
  #part = nothing;
  /** Undefined where all rows of the part are gone through. */
  #index: Index | undefined;
  /** The next batch, or the next of the buckets. */
  #at = 0;
  #buckets: readonly number[] = [];
  /** The next row of the bucket, plus one. */
  #following = 0;

  constructor(sqlite: Sqlite) {
    this.#sqlite = sqlite;
  }

  /** Goes before the first row of these VMs that `search` finds. */
  begin(relation: Relation, vms: readonly number[]): void {
    this.#relation = relation;
    this.#vms = vms;
    this.rewind();
  }

  /** Before the first row again. */
  rewind(): void {
    this.#vmAt = this.#at = this.#following = 0;
    this.#part = nothing;
    this.#index = this.batch = undefined;
  }

  /** Goes to the next row. */
  next(): void {
    do {
      if (!this.#forward()) {
        this.batch = undefined;
        return;
      }
    } while (!this.#isWanted());
  }

  #forward(): boolean {
    for (;;) {
      if (this.#index === undefined) {
        if (this.batch !== undefined && ++this.row < this.batch.rows) return true;
        this.batch = this.#part.batches[this.#at++];
        this.row = 0;
        if (this.batch !== undefined) return true;
      } else if (this.#follow(this.#index)) return true;
      const vm = this.#vms[this.#vmAt++];
      if (vm === undefined) return false;
      this.#enter(vm);
    }
  }

  #follow({ buckets, next, mask }: Index): boolean {
    const { u32 } = this.#sqlite.heap();
    while (this.#following === 0) {
      const bucket = this.#buckets[this.#at++];
      if (bucket === undefined) return false;
      this.#following = u32[buckets / 4 + (bucket & mask)]!;
    }
    const number = this.#following - 1;
    this.#following = u32[next / 4 + number]!;
    const { starts, batches } = this.#part;
    const at = lastNotAfter(starts, number);
    this.batch = batches[at]!;
    this.row = number - starts[at]!;
    return true;
  }

  #enter(vm: number): void {
    const { slot, hashes } = this.search;
    const relation = this.#relation!;
    const part = relation.part(vm) ?? nothing;
    this.vm = vm;
    this.#part = part;
    this.#at = this.#following = 0;
    this.batch = undefined;
    const index = slot < 0 || part.rows < indexedRows ? undefined : relation.index(part, slot);
    this.#index = index;
    if (index === undefined) return;
    // Two hashes may share a bucket, whose rows are wanted once.
    this.#buckets = hashes.length === 1 ? hashes : [...new Set(hashes.map((hash) => hash & index.mask))];
  }

  #isWanted(): boolean {
    const { checks } = this.search;
    if (checks.length === 0) return true;
    const heap = this.#sqlite.heap();
    for (const { slot, key } of checks) if (!equals(heap, this.batch!.columns[slot]!, this.row, key)) return false;
    return true;
  }
}

/** Whether a cell of an integer column equals the key: the numbers that need a bigint are the same on both sides. */
function equals({ u8, f64, i64 }: Heap, { at, kinds }: Cells, row: number, key: Key): boolean {
  const kind = kinds === undefined ? KIND.value : u8[kinds + row]!;
  if (kind === KIND.value) return f64[at / 8 + row] === key;
  return kind === KIND.large && i64[at / 8 + row] === key;
}

/** The index of the last of the ascending numbers that is not above `number`. */
function lastNotAfter(ascending: readonly number[], number: number): number {
  let low = 0;
  let high = ascending.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >>> 1;
    if (ascending[middle]! <= number) low = middle;
    else high = middle - 1;
  }
  return low;
}
