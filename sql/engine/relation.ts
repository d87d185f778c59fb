// Rows that have been read, by VM, with indexes that joins look rows up by. An index is made when it is first wanted.
import { type Batch, type Cells, KIND } from "./batch.ts";
import { allocate } from "./memory.ts";
import type { SqlColumn } from "./schema.ts";
import type { Heap, Sqlite } from "./sqlite.ts";

/** Below this an index costs more than looking at each row. */
const indexedRows = 8;

/**
 * The rows of one VM by the hash of a column. Both lists are u32s in SQLite's memory, and name a row by its number in the part
 * plus one: `buckets` the first row of each hash, `next` the one after each row. 0: no more.
 */
interface Index {
  readonly buckets: number;
  readonly next: number;
  readonly mask: number;
}

/** The rows of one VM. */
interface Part {
  readonly batches: Batch[];
  /** The number in the part of the first row of each batch. */
  readonly starts: number[];
  rows: number;
  readonly indexes: Map<number, Index>;
}

/** What has been read of a table. */
export class Relation {
  /** In the order of the cells of each batch. */
  readonly columns: readonly SqlColumn[];
  readonly #parts = new Map<number, Part>();
  readonly #sqlite: Sqlite;

  constructor(sqlite: Sqlite, columns: readonly SqlColumn[]) {
    this.#sqlite = sqlite;
    this.columns = columns;
  }

  add(vm: number, batch: Omit<Batch, "first">, first: number): void {
    let part = this.#parts.get(vm);
    if (part === undefined) {
      part = { batches: [], starts: [], rows: 0, indexes: new Map() };
      this.#parts.set(vm, part);
    }
    part.batches.push({ ...batch, first });
    part.starts.push(part.rows);
    part.rows += batch.rows;
  }

  /** Takes back what came of a VM that then failed; nobody has looked at it. */
  drop(vm: number): void {
    for (const { block } of this.#parts.get(vm)?.batches ?? []) this.#sqlite.exports.sqlite3_free(block);
    this.#parts.delete(vm);
  }

  /** Adds all rows of a VM to those that a cursor goes through. */
  addAll(vm: number, rows: Rows): void {
    for (const batch of this.#parts.get(vm)?.batches ?? []) rows.addBatch(batch, vm);
  }

  /**
   * Adds the rows of a VM that may have a value of one of these hashes (`hashNumber`, `hashText`) in the column; whoever asks must
   * compare them himself. Cells that are absent, and texts that are not UTF-8, are not among them.
   */
  lookUp(vm: number, column: number, hashes: readonly number[], rows: Rows): void {
    const part = this.#parts.get(vm);
    if (part === undefined || part.rows < indexedRows) {
      this.addAll(vm, rows);
      return;
    }
    let index = part.indexes.get(column);
    if (index === undefined) {
      index = indexOf(this.#sqlite, part, column);
      part.indexes.set(column, index);
    }
    const { buckets, mask } = index;
    if (hashes.length === 1) {
      rows.addBucket(part, index, vm, buckets / 4 + (hashes[0]! & mask));
      return;
    }
    // Two hashes may share a bucket, whose rows are wanted once.
    for (const bucket of new Set(hashes.map((hash) => hash & mask)))
      rows.addBucket(part, index, vm, buckets / 4 + bucket);
  }
}

function indexOf(sqlite: Sqlite, { batches, starts, rows }: Part, column: number): Index {
  let size = 1;
  while (size < rows) size *= 2;
  const buckets = allocate(sqlite, 4 * (size + rows));
  const next = buckets + 4 * size;
  const mask = size - 1;
  const heap = sqlite.heap();
  const { u8, u32 } = heap;
  u32.fill(0, buckets / 4, next / 4);
  // The last first, so that the rows of a bucket follow each other as they came.
  for (let at = batches.length - 1; at >= 0; at--) {
    const { rows: count, columns } = batches[at]!;
    const cells = columns[column]!;
    for (let row = count - 1; row >= 0; row--) {
      // A key is never as large as what no number holds exactly.
      if (cells.kinds !== undefined && u8[cells.kinds + row] !== KIND.value) continue;
      const number = starts[at]! + row;
      const bucket = buckets / 4 + (hashOf(heap, cells, row) & mask);
      u32[next / 4 + number] = u32[bucket]!;
      u32[bucket] = number + 1;
    }
  }
  return { buckets, next, mask };
}

function hashOf({ u8, u32, f64 }: Heap, { type, at }: Cells, row: number): number {
  if (type !== "text") return hashNumber(f64[at / 8 + row]!);
  const place = at / 4 + 2 * row;
  return hashText(u8, u32[place]!, u32[place + 1]!);
}

/** FNV-1a. */
export function hashText(bytes: Uint8Array, at: number, length: number): number {
  let value = 0x811c9dc5;
  for (let i = at; i < at + length; i++) value = Math.imul(value ^ bytes[i]!, 0x01000193);
  return value ^ (value >>> 15);
}

/** The same for equal numbers. */
export function hashNumber(value: number): number {
  const mixed = Math.imul(value | 0, 0x9e3779b1) ^ Math.imul(Math.floor(value / 2 ** 32), 0x85ebca6b);
  return mixed ^ (mixed >>> 15);
}

/** Rows in the order in which a cursor goes through them. */
export class Rows {
  /** The row under the cursor; undefined at the end. */
  batch: Batch | undefined;
  row = 0;
  vm = 0;
  readonly #sqlite: Sqlite;
  /** Whole batches to go through, and then the rows of buckets. */
  readonly #whole: { batch: Batch; vm: number }[] = [];
  readonly #buckets: { part: Part; index: Index; vm: number; at: number }[] = [];
  #wholeAt = 0;
  #bucketAt = 0;
  /** The next row of the bucket, plus one. */
  #following = 0;

  constructor(sqlite: Sqlite) {
    this.#sqlite = sqlite;
  }

  addBatch(batch: Batch, vm: number): void {
    this.#whole.push({ batch, vm });
  }

  /** @param at the index of the bucket among the u32s of SQLite's memory */
  addBucket(part: Part, index: Index, vm: number, at: number): void {
    this.#buckets.push({ part, index, vm, at });
  }

  clear(): void {
    this.#whole.length = this.#buckets.length = this.#wholeAt = this.#bucketAt = this.#following = 0;
    this.batch = undefined;
  }

  /** Before the first row again. */
  rewind(): void {
    this.#wholeAt = this.#bucketAt = this.#following = 0;
    this.batch = undefined;
  }

  /** Goes to the next row: to the first one after rows have been added. */
  next(): void {
    if (this.batch !== undefined && this.#bucketAt === 0) {
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
    const { u32 } = this.#sqlite.heap();
    while (this.#following === 0) {
      const bucket = this.#buckets[this.#bucketAt];
      if (bucket === undefined) {
        this.batch = undefined;
        return;
      }
      this.#bucketAt++;
      this.#following = u32[bucket.at]!;
    }
    const { part, index, vm } = this.#buckets[this.#bucketAt - 1]!;
    const number = this.#following - 1;
    this.#following = u32[index.next / 4 + number]!;
    const at = lastNotAfter(part.starts, number);
    this.batch = part.batches[at]!;
    this.row = number - part.starts[at]!;
    this.vm = vm;
  }
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
