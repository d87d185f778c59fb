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
/** Symbols that one module may have, and bytes of their names: the largest drivers have some 30,000. */
const MAX_SYMBOLS = 1 << 17;
const MAX_STRINGS = 8 << 20;
const MAX_EXPORTS = 1 << 14;
/** KSYM_NAME_LEN from 6.1 (b8a94bfb3395); 128 before. */
const KSYM_NAME_LEN = 512;

/** A module's symbols, copied: in the module's order, of which the first is none. */
export class ModuleSymbols {
  readonly count: number;
  readonly #symbols: Buffer;
  readonly #strings: Buffer;
  readonly #letters: Uint8Array;

  constructor(symbols: Buffer, strings: Buffer, letters: Uint8Array) {
    this.count = Math.floor(symbols.length / SYM_SIZE);
    this.#symbols = symbols;
    this.#strings = strings;
    this.#letters = letters;
  }

  /** Bytes held. */
  get size(): number {
    return this.#symbols.length + this.#strings.length + this.#letters.length;
  }

  hi(index: number): number {
    return this.#symbols.readInt32LE(index * SYM_SIZE + ST_VALUE + 4);
  }

  lo(index: number): number {
    return this.#symbols.readInt32LE(index * SYM_SIZE + ST_VALUE);
  }

  /** False for a symbol of another module, or the kernel's. */
  isDefined(index: number): boolean {
    return this.#symbols.readUInt16LE(index * SYM_SIZE + ST_SHNDX) !== 0;
  }

  /** Empty where there is none, or none that could be read. */
  name(index: number): Uint8Array {
    const start = this.#symbols.readUInt32LE(index * SYM_SIZE);
    const end = this.#strings.indexOf(0, start);
    return start >= this.#strings.length || end < 0 || end - start > KSYM_NAME_LEN
      ? NO_NAME
      : this.#strings.subarray(start, end);
  }

  /** Code of nm's letter as the kernel keeps it; 0 where it keeps none. */
  letter(index: number): number {
    return this.#letters[index] ?? 0;
  }
}

const NO_NAME = new Uint8Array(0);

/** Undefined when the module has none (no CONFIG_KALLSYMS), or none that can be believed. */
export function readModuleSymbols(kernel: Kernel, module: Halves, budget: Budget): ModuleSymbols | undefined {
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
  budget.spend(1 + count);
  const symbols = Buffer.alloc(count * SYM_SIZE);
  if (space.read(symtab.hi, symtab.lo, symbols) !== symbols.length) return undefined;
  let last = 0;
  for (let i = 0; i < count; i++) last = Math.max(last, symbols.readUInt32LE(i * SYM_SIZE));
  if (last > MAX_STRINGS) return undefined;
  const strings = Buffer.alloc(last + KSYM_NAME_LEN);
  budget.spend(1 + (strings.length >>> 8));
  const named = space.read(strtab.hi, strtab.lo, strings);
  const typetab = own.typetab < 0 ? undefined : readPointer(space, at, own.typetab);
  const letters = Buffer.alloc(typetab === undefined ? 0 : count);
  const lettered = typetab === undefined ? 0 : space.read(typetab.hi, typetab.lo, letters);
  return new ModuleSymbols(symbols, strings.subarray(0, named), letters.subarray(0, lettered));
}

/**
 * What the module exports to all: /proc/kallsyms shows these with a capital letter, and the others without, also those
 * for GPL modules only (is_exported()). Empty where that is not known.
 */
export function moduleExports(kernel: Kernel, module: Halves, budget: Budget): ReadonlySet<string> {
  const layout = kernel.layout(moduleStruct);
  const entry = kernel.layout(kernelSymbol);
  const found = new Set<string>();
  if (entry.value_offset < 0 || entry.name_offset < 0) return found;
  const at = layout.syms < 0 ? undefined : readPointer(kernel.space, module, layout.syms);
  const count = layout.num_syms < 0 ? undefined : readU32(kernel.space, module, layout.num_syms);
  if (at === undefined || isNull(at) || count === undefined || count > MAX_EXPORTS) return found;
  for (let i = 0; i < count; i++) {
    budget.spend();
    const symbol = plus(at, i * entry.sizeof);
    const value = distant(kernel, symbol, entry.value_offset);
    const nameAt = distant(kernel, symbol, entry.name_offset);
    const name = nameAt && readCString(kernel.space, nameAt, KSYM_NAME_LEN);
    if (value !== undefined && name !== undefined) found.add(exportKey(name, value.hi, value.lo));
  }
  return found;
}

/** nm's letter as /proc/kallsyms shows it: capital for what is exported. */
export function moduleLetter(symbols: ModuleSymbols, index: number, exports: ReadonlySet<string>): string {
  const code = symbols.letter(index);
  const letter = code > 0x20 && code < 0x7f ? String.fromCharCode(code) : "?";
  const exported =
    exports.size > 0 && exports.has(exportKey(symbols.name(index), symbols.hi(index), symbols.lo(index)));
  return exported ? letter.toUpperCase() : letter.toLowerCase();
}

function exportKey(name: Uint8Array, hi: number, lo: number): string {
  return `${hi}:${lo}:${Buffer.from(name).toString("latin1")}`;
}

/** Where a 32-bit distance from its own place leads (offset_to_ptr). */
function distant(kernel: Kernel, at: Halves, member: number): Halves | undefined {
  const distance = readU32(kernel.space, at, member);
  if (distance === undefined) return undefined;
  const signed = distance | 0;
  return sum(plus(at, member), { hi: signed >> 31, lo: signed });
}
