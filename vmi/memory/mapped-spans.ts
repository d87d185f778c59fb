import { PTE_PRESENT, PTE_PROTNONE } from "../arch/x86-64.ts";
import type { Budget } from "../budget.ts";
import { PAGE_SIZE } from "../bytes/address.ts";
import { frameOf, isLeaf, type PageTables, tableOf } from "./page-tables.ts";

/** Bytes that follow one another in virtual and in physical memory. */
export interface Span {
  readonly address: bigint;
  readonly gpa: number;
  readonly length: number;
}

const ENTRIES = 512;

/**
 * What the page tables map of [start, end), ascending. Entries that are not present are passed over whole, at whatever
 * level they are, so that a large reservation costs nothing. A PROT_NONE page is there, as AddressSpace has it. What is
 * mapped need not be RAM.
 *
 * @param start within the same canonical half as `end`, both multiples of the page size
 */
export function mappedSpans(tables: PageTables, start: bigint, end: bigint, budget: Budget): Generator<Span> {
  const { memory, mmu, smeMaskHi } = tables;
  const { shifts } = mmu;

  function* walk(table: number, level: number, base: bigint): Generator<Span> {
    const shift = shifts[level]!;
    const first = base >= start ? 0 : Number((start - base) >> BigInt(shift));
    const last = Math.min(ENTRIES - 1, Number((end - 1n - base) >> BigInt(shift)));
    // Of a leaf table's entries those that go on where the one before ended.
    let from = first;
    let gpa = 0;
    let length = 0;
    for (let i = first; i <= last; i++) {
      budget.spend();
      const at = memory.locate(table + i * 8);
      if (at < 0) break;
      const lo = memory.view.getInt32(at, true);
      const hi = memory.view.getInt32(at + 4, true) & smeMaskHi;
      const present = (lo & PTE_PRESENT) !== 0;
      // See AddressSpace's walk: the frame number of an entry that is not present is stored inverted.
      const protNone = !present && (lo & PTE_PROTNONE) !== 0 && isLeaf(shift, lo);
      if (!present && !protNone) continue;
      if (shift !== 12) {
        const address = base + (BigInt(i) << BigInt(shift));
        if (isLeaf(shift, lo)) {
          const frame = protNone ? frameOf(shift, ~hi & smeMaskHi, ~lo, 0) : frameOf(shift, hi, lo, 0);
          yield clip({ address, gpa: frame, length: 2 ** shift }, start, end);
        } else yield* walk(tableOf(hi, lo), level + 1, address);
        continue;
      }
      const frame = protNone ? frameOf(shift, ~hi & smeMaskHi, ~lo, 0) : frameOf(shift, hi, lo, 0);
      if (length > 0 && frame === gpa + length && i * PAGE_SIZE === from * PAGE_SIZE + length) {
        length += PAGE_SIZE;
        continue;
      }
      if (length > 0) yield { address: base + BigInt(from * PAGE_SIZE), gpa, length };
      from = i;
      gpa = frame;
      length = PAGE_SIZE;
    }
    if (length > 0) yield { address: base + BigInt(from * PAGE_SIZE), gpa, length };
  }

  const covered = 1n << BigInt(mmu.virtualBits);
  return walk(tables.pgd, 0, start - (start % covered));
}

function clip({ address, gpa, length }: Span, start: bigint, end: bigint): Span {
  const from = address > start ? address : start;
  const to = address + BigInt(length) < end ? address + BigInt(length) : end;
  return { address: from, gpa: gpa + Number(from - address), length: Number(to - from) };
}
