import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import { struct } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { moduleStruct } from "./module.ts";
import { isNull, plus, readCString, readPointer, readU32, sum } from "./read.ts";

/** What modules say of their own symbols: struct module's `kallsyms` (kernel/module/kallsyms.c). */

const modKallsyms = struct("?mod_kallsyms", {
  symtab: "symtab",
  num_symtab: "num_symtab",
  strtab: "strtab",
  /** From 5.2 (1c7651f43777); before, the letter was put into st_info, and is in st_size from 5.0 (71f61d5c5d4f). */
  typetab: "?typetab",
});
/** include/linux/export-internal.h; with CONFIG_HAVE_ARCH_PREL32_RELOCATIONS, as on x86-64, members are 32-bit distances. */
const kernelSymbol = struct("?kernel_symbol", {
  value_offset: "?value_offset",
  name_offset: "?name_offset",
});

/** struct elf64_sym: u32 st_name, u8 st_info, u8 st_other, u16 st_shndx, u64 st_value, u64 st_size. */
const SYM_SIZE = 24;
const ST_SHNDX = 6;
const ST_VALUE = 8;
/** Symbols that one module may have: the largest drivers have some 30,000. */
const MAX_SYMBOLS = 1 << 17;
const MAX_EXPORTS = 1 << 14;
/** KSYM_NAME_LEN from 6.1 (b8a94bfb3395); 128 before. */
const KSYM_NAME_LEN = 512;
/** Bytes of the symbol table that are copied at once. */
const CHUNK_SYMBOLS = 1024;

export interface ModuleSymbolTable {
  readonly symtab: Halves;
  readonly strtab: Halves;
  /** Undefined where the kernel keeps no letters of its own. */
  readonly typetab: Halves | undefined;
  readonly count: number;
}

/** Undefined when the module has none (no CONFIG_KALLSYMS), or none that can be believed. */
export function moduleSymbolTable(kernel: Kernel, module: Halves): ModuleSymbolTable | undefined {
  const layout = kernel.layout(moduleStruct);
  const own = kernel.layout(modKallsyms);
  if (layout.kallsyms < 0 || own.symtab < 0) return undefined;
  const { space } = kernel;
  const at = readPointer(space, module, layout.kallsyms);
  if (at === undefined || isNull(at)) return undefined;
  const symtab = readPointer(space, at, own.symtab);
  const strtab = readPointer(space, at, own.strtab);
  const count = readU32(space, at, own.num_symtab);
  if (symtab === undefined || strtab === undefined || count === undefined || count > MAX_SYMBOLS) return undefined;
  return { symtab, strtab, typetab: own.typetab < 0 ? undefined : readPointer(space, at, own.typetab), count };
}

/**
 * Visits the symbols in the module's order.
 *
 * @param visit is given the symbol's number, its value, where its name is from `strtab` on, and its section (0: undefined)
 * @returns false when the table could not be read to its end
 */
export function walkModuleSymbols(
  kernel: Kernel,
  table: ModuleSymbolTable,
  budget: Budget,
  visit: (index: number, hi: number, lo: number, name: number, section: number) => boolean,
): boolean {
  for (let first = 0; first < table.count; first += CHUNK_SYMBOLS) {
    const bytes = Buffer.alloc(Math.min(CHUNK_SYMBOLS, table.count - first) * SYM_SIZE);
    budget.spend(1 + bytes.length / SYM_SIZE);
    const from = plus(table.symtab, first * SYM_SIZE);
    if (kernel.space.read(from.hi, from.lo, bytes) !== bytes.length) return false;
    for (let at = 0; at < bytes.length; at += SYM_SIZE) {
      const section = bytes.readUInt16LE(at + ST_SHNDX);
      const [hi, lo] = [bytes.readInt32LE(at + ST_VALUE + 4), bytes.readInt32LE(at + ST_VALUE)];
      if (!visit(first + at / SYM_SIZE, hi, lo, bytes.readUInt32LE(at), section)) return true;
    }
  }
  return true;
}

export function moduleSymbolName(kernel: Kernel, table: ModuleSymbolTable, name: number): Uint8Array | undefined {
  return readCString(kernel.space, plus(table.strtab, name & 0x7fff_ffff), KSYM_NAME_LEN);
}

/** nm's letters, of every symbol; empty where the kernel keeps none. */
export function moduleSymbolLetters(kernel: Kernel, table: ModuleSymbolTable): Uint8Array {
  const letters = new Uint8Array(table.typetab === undefined ? 0 : table.count);
  if (table.typetab !== undefined) kernel.space.read(table.typetab.hi, table.typetab.lo, letters);
  return letters;
}

/**
 * What the module exports, as `name` at address: /proc/kallsyms shows these with a capital letter, and the others
 * without (is_exported()). Empty where that is not known.
 */
export function moduleExports(kernel: Kernel, module: Halves, budget: Budget): ReadonlySet<string> {
  const layout = kernel.layout(moduleStruct);
  const entry = kernel.layout(kernelSymbol);
  const found = new Set<string>();
  if (entry.value_offset < 0 || entry.name_offset < 0) return found;
  for (const [start, number] of [
    [layout.syms, layout.num_syms],
    [layout.gpl_syms, layout.num_gpl_syms],
  ] as const) {
    if (start < 0 || number < 0) continue;
    const at = readPointer(kernel.space, module, start);
    const count = readU32(kernel.space, module, number) ?? 0;
    if (at === undefined || isNull(at) || count > MAX_EXPORTS) continue;
    for (let i = 0; i < count; i++) {
      budget.spend();
      const symbol = plus(at, i * entry.sizeof);
      const value = distant(kernel, symbol, entry.value_offset);
      const nameAt = distant(kernel, symbol, entry.name_offset);
      const name = nameAt && readCString(kernel.space, nameAt, KSYM_NAME_LEN);
      if (value !== undefined && name !== undefined) found.add(exportKey(name, value.hi, value.lo));
    }
  }
  return found;
}

export function exportKey(name: Uint8Array, hi: number, lo: number): string {
  return `${hi}:${lo}:${Buffer.from(name).toString("latin1")}`;
}

/** Where a 32-bit distance from its own place leads (offset_to_ptr). */
function distant(kernel: Kernel, at: Halves, member: number): Halves | undefined {
  const distance = readU32(kernel.space, at, member);
  if (distance === undefined) return undefined;
  const signed = distance | 0;
  return sum(plus(at, member), { hi: signed >> 31, lo: signed });
}
