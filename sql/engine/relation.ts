// Rows that have been read, by VM, with indexes that joins look rows up by. An index is made when it is first wanted.
import { type Batch, type Cells, KIND } from "./batch.ts";
import { allocate } from "./memory.ts";
import type { SqlColumn } from "./schema.ts";
import type { Heap, Sqlite } from "./sqlite.ts";

/** Below this an index costs more than looking at each row. */
export const indexedRows = 8;

/**
 * The rows of one VM by the hash of a column. Both lists are u32s in SQLite's memory, and name a row by its number in the part
 * plus one: `buckets` the first row of each hash, `next` the one after each row. 0: no more. Cells that are absent, numbers that
 * are KIND.large, and texts that are not UTF-8, are not among them.
 */
export interface Index {
  readonly buckets: number;
  readonly next: number;
  readonly mask: number;
}

/** The rows of one VM. */
export interface Part {
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
  /** VMs that have not answered to the end. */
  readonly #open: Set<number>;
  readonly #wait: () => void;

  /** @param wait takes what comes next of what is read */
  constructor(sqlite: Sqlite, columns: readonly SqlColumn[], vms: readonly number[], wait: () => void) {
    this.#sqlite = sqlite;
    this.columns = columns;
    this.#open = new Set(vms);
    this.#wait = wait;
  }

  /** Whether all has come. */
  get isComplete(): boolean {
    return this.#open.size === 0;
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

  /** Nothing more comes of a VM. */
  end(vm: number): void {
    this.#open.delete(vm);
  }

  /** What has come of a VM, once that is all; undefined: nothing. */
  part(vm: number): Part | undefined {
    while (this.#open.has(vm)) this.#wait();
    return this.#parts.get(vm);
  }

  /** Rows of a part by the hash of a column (`hashNumber`, `hashText`). */
  index(part: Part, column: number): Index {
    let index = part.indexes.get(column);
    if (index === undefined) {
      index = indexOf(this.#sqlite, part, column);
      part.indexes.set(column, index);
    }
    return index;
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
