// Rows put in such an order that those with the same values follow each other. GROUP BY and DISTINCT ask for no more, and SQLite
// would sort the rows of a whole join for it, which costs several times what the rest of a statement does. Where the VM is
// among the values, the rows of one VM are put in order when those before have been gone through: the next may not have come.
import { type Batch, type Cells, KIND } from "./batch.ts";
import { allocate } from "./memory.ts";
import { hashNumber, hashText, type Relation } from "./relation.ts";
import type { Rows } from "./rows.ts";
import type { Heap, Sqlite } from "./sqlite.ts";

/** u32s of each row: its batch (in `#sources`), its number there, and the three of `link`. */
const words = 5;
/** Rows are named by their number plus one; 0 is none. */
const link = {
  /** Of the first row of a group: the first of another group in the same bucket. */
  group: 2,
  /** Of the first row of a group: the last of it. 0: it is not the first. */
  last: 3,
  /** The next one in the group. */
  next: 4,
} as const;

export class Groups {
  readonly #sqlite: Sqlite;
  readonly #slots: readonly number[];
  readonly #found: Rows;
  readonly #relation: Relation;
  readonly #parts: readonly (readonly number[])[];
  #partAt = 0;
  readonly #sources: { readonly batch: Batch; readonly vm: number }[] = [];
  #block = 0;
  /** The index of the first row's first u32. */
  #first = 0;
  #rows = 0;
  /** The row under the cursor, and the first one of its group. */
  #at = 0;
  #leader = 0;

  /**
   * @param slots the columns whose values must be the same
   * @param found goes through the rows
   * @param parts VMs: only rows of the same element are put in one group
   */
  constructor(
    sqlite: Sqlite,
    slots: readonly number[],
    found: Rows,
    relation: Relation,
    parts: readonly (readonly number[])[],
  ) {
    this.#sqlite = sqlite;
    this.#slots = slots;
    this.#found = found;
    this.#relation = relation;
    this.#parts = parts;
  }

  /** Puts the rows of some VMs in groups. Throws ResourceExhausted. */
  #fill(vms: readonly number[]): void {
    const rows = this.#found;
    rows.begin(this.#relation, vms);
    let count = 0;
    for (rows.next(); rows.batch !== undefined; rows.next()) count++;
    rows.rewind();
    let size = 1;
    while (size < count) size *= 2;
    this.free();
    this.#block = allocate(this.#sqlite, 4 * (size + words * count));
    const heap = this.#sqlite.heap();
    const buckets = this.#block / 4;
    this.#first = buckets + size;
    heap.u32.fill(0, buckets, this.#first + words * count);
    for (rows.next(); rows.batch !== undefined; rows.next()) {
      const { batch, vm, row } = rows;
      const source = this.#sources.at(-1);
      if (source?.batch !== batch) this.#sources.push({ batch, vm });
      const at = this.#first + words * this.#rows++;
      heap.u32[at] = this.#sources.length - 1;
      heap.u32[at + 1] = row;
      this.#add(heap, at, buckets + (this.#hash(heap, batch, row) & (size - 1)));
    }
  }

  /** Puts a row into its group, or begins one with it. */
  #add(heap: Heap, at: number, bucket: number): void {
    const { u32 } = heap;
    const number = (at - this.#first) / words + 1;
    for (let leader = u32[bucket]!; leader !== 0; ) {
      const place = this.#first + words * (leader - 1);
      if (this.#same(heap, place, at)) {
        const last = u32[place + link.last]!;
        u32[this.#first + words * (last - 1) + link.next] = number;
        u32[place + link.last] = number;
        return;
      }
      leader = u32[place + link.group]!;
    }
    u32[at + link.group] = u32[bucket]!;
    u32[at + link.last] = number;
    u32[bucket] = number;
  }

  #hash(heap: Heap, batch: Batch, row: number): number {
    let hash = 0;
    for (const slot of this.#slots) {
      hash = Math.imul(hash ^ hashOf(heap, batch.columns[slot]!, row), 0x9e3779b1);
      hash ^= hash >>> 15;
    }
    return hash;
  }

  #same(heap: Heap, one: number, other: number): boolean {
    const { u32 } = heap;
    const first = this.#sources[u32[one]!]!;
    const second = this.#sources[u32[other]!]!;
    for (const slot of this.#slots) {
      const cells = first.batch.columns[slot]!;
      if (!sameCell(heap, cells, u32[one + 1]!, second.batch.columns[slot]!, u32[other + 1]!)) return false;
    }
    return true;
  }

  /** Goes to the next row, or the first; false when there is none. */
  next(): boolean {
    while (!this.#step()) {
      const vms = this.#parts[this.#partAt++];
      if (vms === undefined) return false;
      this.#fill(vms);
    }
    return true;
  }

  #step(): boolean {
    const { u32 } = this.#sqlite.heap();
    const next = this.#at === 0 ? 0 : u32[this.#first + words * (this.#at - 1) + link.next]!;
    if (next !== 0) {
      this.#at = next;
      return true;
    }
    do this.#leader++;
    while (this.#leader <= this.#rows && u32[this.#first + words * (this.#leader - 1) + link.last] === 0);
    this.#at = this.#leader;
    return this.#leader <= this.#rows;
  }

  /** The row that `next` went to. */
  get source(): { readonly batch: Batch; readonly vm: number } {
    return this.#sources[this.#sqlite.heap().u32[this.#first + words * (this.#at - 1)]!]!;
  }

  get row(): number {
    return this.#sqlite.heap().u32[this.#first + words * (this.#at - 1) + 1]!;
  }

  free(): void {
    this.#sqlite.exports.sqlite3_free(this.#block);
    this.#block = this.#rows = this.#at = this.#leader = this.#sources.length = 0;
  }
}

const kindOf = ({ u8 }: Heap, { kinds }: Cells, row: number) => (kinds === undefined ? KIND.value : u8[kinds + row]!);

function hashOf(heap: Heap, cells: Cells, row: number): number {
  const kind = kindOf(heap, cells, row);
  if (kind === KIND.absent) return 0;
  const slot = cells.at / 8 + row;
  if (cells.type === "text") return hashText(heap.u8, heap.u32[2 * slot]!, heap.u32[2 * slot + 1]!);
  return kind === KIND.large ? Number(BigInt.asIntN(32, heap.i64[slot]!)) : hashNumber(heap.f64[slot]!);
}

/** As SQLite has it: NULLs are the same, a text and a blob never. */
function sameCell(heap: Heap, one: Cells, row: number, other: Cells, otherRow: number): boolean {
  const kind = kindOf(heap, one, row);
  if (kind !== kindOf(heap, other, otherRow)) return false;
  if (kind === KIND.absent) return true;
  const slot = one.at / 8 + row;
  const otherSlot = other.at / 8 + otherRow;
  if (kind === KIND.large) return heap.i64[slot] === heap.i64[otherSlot];
  if (one.type !== "text") return heap.f64[slot] === heap.f64[otherSlot];
  const { u8, u32 } = heap;
  const length = u32[2 * slot + 1]!;
  if (length !== u32[2 * otherSlot + 1]) return false;
  const at = u32[2 * slot]!;
  const otherAt = u32[2 * otherSlot]!;
  for (let i = 0; i < length; i++) if (u8[at + i] !== u8[otherAt + i]) return false;
  return true;
}
