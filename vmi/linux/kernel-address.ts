import type { Budget } from "../budget.ts";
import { gvaOf, type Halves } from "../bytes/address.ts";
import type { KernelSymbol } from "../symbols/kallsyms.ts";
import { symbol } from "../symbols/specs.ts";
import type { Kernel, Place } from "./kernel.ts";
import { moduleMemoryAreas, moduleName, moduleState, walkModules } from "./module.ts";
import { type ModuleSymbols, moduleExports, moduleLetter, readModuleSymbols } from "./module-symbols.ts";
import { latin1 } from "./read.ts";

/** What is at an address of the kernel's: its image, a module, or neither. */
export interface AddressDescription {
  /** The symbol at the address or the last before it; absent where no symbol table covers the address. */
  readonly symbol?: string;
  /** Bytes behind the symbol; 0 without one. */
  readonly offset: number;
  /** The module that the address is in; absent for the image, and for what is in none. */
  readonly module?: string;
  /** Executable: the image's text, or a module's. What was made at run time (BPF programs, trampolines) is in neither. */
  readonly text: boolean;
}

const startText = symbol("_text");
const stext = symbol("_stext");
const etext = symbol("_etext");
const sinittext = symbol("?_sinittext");
const einittext = symbol("?_einittext");
const end = symbol("_end");

/** The kernel's image and its modules are in the top 2 GiB (Documentation/arch/x86/x86_64/mm.rst). */
const TOP = -1;
const NOWHERE: AddressDescription = { offset: 0, text: false };

interface Area {
  readonly start: number;
  readonly end: number;
  readonly text: boolean;
  readonly module: ModuleEntry;
}

interface ModuleEntry {
  readonly at: Halves;
  readonly name: string;
  symbols: SortedSymbols | undefined;
}

/** A module's symbols by address. */
interface SortedSymbols {
  readonly table: ModuleSymbols;
  /** Low halves of the addresses, ascending. */
  readonly values: Float64Array;
  /** Index of each in the module's table. */
  readonly order: Float64Array;
}

/** What one request has learned of modules. A budget is of one request, and nothing of a guest outlives that. */
class AddressIndex {
  readonly kernel: Kernel;
  readonly budget: Budget;
  readonly #areas: readonly Area[];
  readonly #known = new Map<number, AddressDescription>();
  #room = MAX_TABLES;

  constructor(kernel: Kernel, budget: Budget) {
    this.kernel = kernel;
    this.budget = budget;
    this.#areas = areasOf(kernel, budget);
  }

  describe(at: Halves): AddressDescription {
    // Also per-CPU variables and absolute symbols have small values: they are no places in memory.
    if (at.hi !== TOP) return NOWHERE;
    const address = at.lo >>> 0;
    const known = this.#known.get(address);
    if (known !== undefined) return known;
    const found = this.#find(at, address);
    if (this.#known.size < MAX_KNOWN) this.#known.set(address, found);
    return found;
  }

  /** Undefined outside of modules, and before the first symbol of one. */
  moduleSymbol(at: Halves): KernelSymbol | undefined {
    const address = at.lo >>> 0;
    const area = at.hi === TOP ? this.#areaAt(address) : undefined;
    if (area === undefined) return undefined;
    const found = this.#symbolIn(area, address);
    if (found === undefined) return undefined;
    const { table, index } = found;
    return {
      index,
      name: latin1(table.name(index)),
      type: moduleLetter(table, index, moduleExports(this.kernel, area.module.at, this.budget)),
      address: gvaOf(TOP, table.lo(index)),
      module: area.module.name,
    };
  }

  #find(at: Halves, address: number): AddressDescription {
    const { kernel } = this;
    if (within(kernel, address, startText, end)) {
      const found = kernel.kallsyms.before((0xffff_ffffn << 32n) | BigInt(address));
      if (found === undefined) return NOWHERE;
      return {
        symbol: found.name,
        offset: address - Number(found.address & 0xffff_ffffn),
        text: inKernelText(kernel, at),
      };
    }
    const area = this.#areaAt(address);
    if (area === undefined) return NOWHERE;
    const found = this.#symbolIn(area, address);
    const { text } = area;
    const module = area.module.name;
    if (found === undefined) return { offset: 0, module, text };
    const { table, index } = found;
    return { symbol: latin1(table.name(index)), offset: address - (table.lo(index) >>> 0), module, text };
  }

  /** Undefined when the module's table can't be read, or others have taken all the room. */
  #symbolsOf(module: Halves): SortedSymbols | undefined {
    const table = this.#room > 0 ? readModuleSymbols(this.kernel, module, this.budget) : undefined;
    if (table === undefined) return undefined;
    this.#room -= table.size + table.count * 16;
    return sorted(table);
  }

  #areaAt(address: number): Area | undefined {
    let low = 0;
    let high = this.#areas.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#areas[middle]!.start <= address) low = middle + 1;
      else high = middle;
    }
    const area = this.#areas[low - 1];
    return area !== undefined && address < area.end ? area : undefined;
  }

  /** As find_kallsyms_symbol() (kernel/module/kallsyms.c): the nearest below that has a name of its own. */
  #symbolIn({ module, start }: Area, address: number): { table: ModuleSymbols; index: number } | undefined {
    module.symbols ??= this.#symbolsOf(module.at);
    if (module.symbols === undefined) return undefined;
    const { table, values, order } = module.symbols;
    let last = lastAtOrBelow(values, address);
    for (let tries = 0; last >= 0 && values[last]! >= start && tries < MAX_UNNAMED; last--, tries++) {
      // Of those at one place the first of the module's table.
      while (last > 0 && values[last - 1] === values[last]) last--;
      for (let same = last; same < values.length && values[same] === values[last]; same++) {
        this.budget.spend();
        const name = table.name(order[same]!);
        if (name.length > 0 && !isMapping(name)) return { table, index: order[same]! };
      }
    }
    return undefined;
  }
}

const MAX_KNOWN = 1 << 14;
/** Neighbours without a usable name that are passed over. */
const MAX_UNNAMED = 64;
const indexes = new WeakMap<Budget, AddressIndex>();

function indexOf(kernel: Kernel, budget: Budget): AddressIndex {
  let index = indexes.get(budget);
  if (index === undefined || index.kernel !== kernel) {
    index = new AddressIndex(kernel, budget);
    indexes.set(budget, index);
  }
  return index;
}

/** Symbol and module of an address of code or data of the kernel and its modules; cheap for many of one request. */
export function describeAddress(kernel: Kernel, at: Halves, budget: Budget): AddressDescription {
  return indexOf(kernel, budget).describe(at);
}

/** The symbol of a module at or before an address; undefined for what is in no module. */
export function moduleSymbolBefore(kernel: Kernel, at: Halves, budget: Budget): KernelSymbol | undefined {
  return indexOf(kernel, budget).moduleSymbol(at);
}

/** `name`, or `name+0x10`; undefined where there is no symbol. */
export function symbolText({ symbol, offset }: AddressDescription): string | undefined {
  return symbol === undefined || offset === 0 ? symbol : `${symbol}+0x${offset.toString(16)}`;
}

/** True for an address in the text of the kernel's image, with what only serves while it starts. */
export function inKernelText(kernel: Kernel, at: Halves): boolean {
  if (at.hi !== TOP) return false;
  return within(kernel, at.lo >>> 0, stext, etext) || within(kernel, at.lo >>> 0, sinittext, einittext);
}

function within(kernel: Kernel, address: number, from: typeof stext, to: typeof stext): boolean {
  const [first, last] = [kernel.optionalPlace(from), kernel.optionalPlace(to)];
  return first !== undefined && last !== undefined && address >= low(first) && address < low(last);
}

function low({ hi, lo }: Place): number {
  return hi === TOP ? lo >>> 0 : Number.NaN;
}

function areasOf(kernel: Kernel, budget: Budget): Area[] {
  const areas: Area[] = [];
  const list = walkModules(kernel, budget);
  for (let i = 0; i < list.count; i++) {
    const at = { hi: list.hi[i]!, lo: list.lo[i]! };
    const name = moduleName(kernel, at);
    if (name === undefined || moduleState(kernel, at) === undefined) continue;
    const module: ModuleEntry = { at, name: latin1(name), symbols: undefined };
    for (const { base, size, textSize } of moduleMemoryAreas(kernel, at)) {
      if (base.hi !== TOP || size === 0) continue;
      const start = base.lo >>> 0;
      if (textSize > 0) areas.push({ start, end: start + Math.min(textSize, size), text: true, module });
      if (textSize < size) areas.push({ start: start + textSize, end: start + size, text: false, module });
    }
  }
  return areas.sort((a, b) => a.start - b.start);
}

function sorted(table: ModuleSymbols): SortedSymbols {
  const keys: number[] = [];
  // The first is no symbol, and an undefined one is another module's.
  for (let i = 1; i < table.count; i++) {
    if (table.isDefined(i) && table.hi(i) === TOP) keys.push((table.lo(i) >>> 0) * MAX_ORDER + i);
  }
  // Address and order in one number sort as both.
  const all = Float64Array.from(keys).sort();
  return { table, values: all.map((key) => Math.floor(key / MAX_ORDER)), order: all.map((key) => key % MAX_ORDER) };
}

/** More than the symbols of any module; with 32 bits of an address still exact in a number. */
const MAX_ORDER = 1 << 20;
/** Bytes of modules' symbol tables that one request copies. */
const MAX_TABLES = 32 << 20;

function lastAtOrBelow(values: Float64Array, address: number): number {
  let first = 0;
  let last = values.length;
  while (first < last) {
    const middle = (first + last) >>> 1;
    if (values[middle]! <= address) first = middle + 1;
    else last = middle;
  }
  return first - 1;
}

/** is_mapping_symbol(): `.L` and `L0` are the assembler's, `$` the architecture's. */
function isMapping(name: Uint8Array): boolean {
  const [first, second] = name;
  return first === 0x24 || (first === 0x2e && second === 0x4c) || (first === 0x4c && second === 0x30);
}
