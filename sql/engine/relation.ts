// Rows that have been read, by VM, with indexes that joins look rows up by. An index is made when it is first wanted.
import { type Batch, KIND } from "./batch.ts";
import type { SqlColumn } from "./schema.ts";

/** The rows of one VM. A row's number says which batch it is in, and where. */
interface Part {
  readonly batches: Batch[];
  rows: number;
  readonly indexes: Map<number, Map<number, number[]>>;
}

/** Rows of a batch that fit in a row's number. */
const batchRows = 2 ** 22;

/** Below this an index costs more than looking at each row. */
const indexedRows = 8;

/** What has been read of a table. */
export class Relation {
  /** In the order of the cells of each batch. */
  readonly columns: readonly SqlColumn[];
  readonly parts: readonly Part[];

  constructor(columns: readonly SqlColumn[], vms: number) {
    this.columns = columns;
    this.parts = Array.from({ length: vms }, () => ({ batches: [], rows: 0, indexes: new Map() }));
  }

  add(vm: number, batch: Omit<Batch, "first">, first: number): void {
    const part = this.parts[vm]!;
    part.batches.push({ ...batch, first });
    part.rows += batch.rows;
  }

  /** Takes back what came of a VM that then failed. */
  drop(vm: number): void {
    const part = this.parts[vm]!;
    part.batches.length = part.rows = 0;
  }

  /**
   * Adds the rows of a VM that may have one of the keys in the column, which are numbers and hashes of texts;
   * whoever asks must compare them himself.
   * Cells that are absent, and texts that are not UTF-8, are not among them.
   */
  lookUp(heap: Uint8Array, vm: number, column: number, keys: ReadonlySet<number>, rows: Rows): void {
    const part = this.parts[vm]!;
    if (part.rows < indexedRows) {
      rows.addAll(part.batches, vm);
      return;
    }
    let index = part.indexes.get(column);
    if (index === undefined) {
      index = this.#index(heap, part, column);
      part.indexes.set(column, index);
    }
    for (const key of keys) for (const row of index.get(key) ?? []) rows.add(part.batches, vm, row);
  }

  #index(heap: Uint8Array, { batches }: Part, column: number): Map<number, number[]> {
    const index = new Map<number, number[]>();
    for (const [at, { rows, columns }] of batches.entries()) {
      const { values, lengths, kinds } = columns[column]!;
      for (let row = 0; row < rows; row++) {
        // A key is never as large as what no number holds exactly.
        if (kinds !== undefined && kinds[row] !== KIND.value) continue;
        const key = lengths === undefined ? values[row]! : hash(heap, values[row]!, lengths[row]!);
        const known = index.get(key);
        const number = at * batchRows + row;
        if (known === undefined) index.set(key, [number]);
        else known.push(number);
      }
    }
    return index;
  }
}

/** FNV-1a. What hashes alike is compared by SQLite. */
export function hash(heap: Uint8Array, at: number, length: number): number {
  let value = 0x811c9dc5;
  for (let i = at; i < at + length; i++) value = Math.imul(value ^ heap[i]!, 0x01000193);
  return value;
}

/** Rows in the order in which a cursor goes through them. */
export class Rows {
  /** The row under the cursor; undefined at the end. */
  batch: Batch | undefined;
  row = 0;
  vm = 0;
  /** Whole batches to go through, and then single rows. */
  readonly #whole: { batch: Batch; vm: number }[] = [];
  readonly #single: { batch: Batch; vm: number; row: number }[] = [];
  #wholeAt = 0;
  #singleAt = 0;

  addAll(batches: readonly Batch[], vm: number): void {
    for (const batch of batches) this.#whole.push({ batch, vm });
  }

  add(batches: readonly Batch[], vm: number, number: number): void {
    this.#single.push({ batch: batches[Math.floor(number / batchRows)]!, vm, row: number % batchRows });
  }

  clear(): void {
    this.#whole.length = this.#single.length = this.#wholeAt = this.#singleAt = 0;
    this.batch = undefined;
  }

  /** Goes to the next row: to the first one after rows have been added. */
  next(): void {
    if (this.#wholeAt > 0 && this.batch !== undefined && this.#singleAt === 0) {
      this.row++;
      if (this.row < this.batch.rows) return;
    }
    const whole = this.#whole[this.#wholeAt];
    if (whole !== undefined) {
      this.#wholeAt++;
      this.batch = whole.batch;
      this.vm = whole.vm;
      this.row = 0;
      return;
    }
    const single = this.#single[this.#singleAt];
    this.batch = single?.batch;
    if (single === undefined) return;
    this.#singleAt++;
    this.row = single.row;
    this.vm = single.vm;
  }
}
