import {
  type Mmu,
  PTE_ADDRESS_HI,
  PTE_LARGE,
  PTE_PRESENT,
  PTE_PROTNONE,
  PTE_USER,
  PTE_WRITABLE,
} from "../arch/x86-64.ts";
import { PAGE_SIZE } from "../bytes/address.ts";
import type { Ram } from "./ram.ts";

const NX = 1n << 63n;
const ADDRESS = (BigInt(PTE_ADDRESS_HI) << 32n) | 0xffff_f000n;
const TABLE = BigInt(PTE_PRESENT | PTE_WRITABLE | PTE_USER);

export interface MapOptions {
  /** 12, 21 or 30: the page is 2 to the power of this large. */
  readonly shift?: 12 | 21 | 30;
  readonly writable?: boolean;
  readonly user?: boolean;
  readonly executable?: boolean;
}

/** Writes page tables into RAM. */
export class PageTableWriter {
  readonly ram: Ram;
  readonly mmu: Mmu;
  readonly pgd: number;
  readonly smeMask: bigint;

  constructor(ram: Ram, mmu: Mmu, options: { pgd?: number; smeMask?: bigint } = {}) {
    this.ram = ram;
    this.mmu = mmu;
    this.pgd = options.pgd ?? this.#table();
    this.smeMask = options.smeMask ?? 0n;
  }

  map(va: bigint, gpa: number, options: MapOptions = {}): void {
    const { shift = 12, writable = true, user = false, executable = true } = options;
    let entry = BigInt(gpa) | BigInt(PTE_PRESENT) | this.smeMask;
    if (shift > 12) entry |= BigInt(PTE_LARGE);
    if (writable) entry |= BigInt(PTE_WRITABLE);
    if (user) entry |= BigInt(PTE_USER);
    if (!executable) entry |= NX;
    this.setEntry(va, entry, shift);
  }

  /** As mprotect(PROT_NONE) leaves a page: not present, the global bit set, the frame number inverted. */
  mapProtNone(va: bigint, gpa: number, shift: 12 | 21 | 30 = 12): void {
    const flags = BigInt(PTE_PROTNONE | (shift > 12 ? PTE_LARGE : 0));
    this.setEntry(va, (~BigInt(gpa) & ADDRESS) | flags, shift);
  }

  #table(): number {
    const gpa = this.ram.take();
    this.ram.bytes.fill(0, gpa, gpa + PAGE_SIZE);
    return gpa;
  }

  /** Writes the entry of the level with this shift; tables above come into being as needed. */
  setEntry(va: bigint, entry: bigint, shift: number): void {
    this.ram.setU64(this.entryAt(va, shift), entry);
  }

  /** Where the entry of the level with this shift is. */
  entryAt(va: bigint, shift: number): number {
    let table = this.pgd;
    for (const level of this.mmu.shifts) {
      const at = table + Number((va >> BigInt(level)) & 511n) * 8;
      if (level === shift) return at;
      if (this.ram.u64(at) === 0n) this.ram.setU64(at, BigInt(this.#table()) | TABLE | this.smeMask);
      table = Number(this.ram.u64(at) & ADDRESS & ~this.smeMask);
    }
    throw new Error(`no level has the shift ${shift}`);
  }
}

export interface NaiveTranslation {
  readonly gpa: bigint;
  readonly shift: number;
  readonly writable: boolean;
  readonly user: boolean;
  readonly executable: boolean;
  readonly protNone: boolean;
}

/** The AMD64 manual's words in bigint, slow and plain: what the engine's walker must agree with. */
export function naiveWalk(tables: PageTableWriter, va: bigint): NaiveTranslation | undefined {
  const { ram, mmu, smeMask } = tables;
  const signed = BigInt.asIntN(mmu.virtualBits, va);
  if (BigInt.asUintN(64, signed) !== va) return undefined;
  let table = BigInt(tables.pgd);
  let [writable, user, executable] = [true, true, true];
  for (const shift of mmu.shifts) {
    const at = table + ((va >> BigInt(shift)) & 511n) * 8n;
    if (!ram.layout.ranges.some(({ gpa, length }) => at >= BigInt(gpa) && at < BigInt(gpa + length))) return undefined;
    const entry = ram.u64(Number(at));
    const bit = (mask: number) => (entry & BigInt(mask)) !== 0n;
    const protNone = !bit(PTE_PRESENT);
    const leaf = shift === 12 || (shift <= 30 && bit(PTE_LARGE));
    if (protNone && !(leaf && bit(PTE_PROTNONE))) return undefined;
    writable &&= bit(PTE_WRITABLE);
    user &&= bit(PTE_USER);
    executable &&= (entry & NX) === 0n;
    const frame = (protNone ? ~entry : entry) & ADDRESS & ~smeMask;
    if (leaf) {
      const offset = (1n << BigInt(shift)) - 1n;
      return { gpa: (frame & ~offset) | (va & offset), shift, writable, user, executable, protNone };
    }
    table = frame;
  }
  return undefined;
}
