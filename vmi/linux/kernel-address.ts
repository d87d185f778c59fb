import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import { symbol } from "../symbols/specs.ts";
import type { Kernel, Place } from "./kernel.ts";
import { moduleMemoryAreas, moduleName, moduleState, walkModules } from "./module.ts";
import { type ModuleSymbolTable, moduleSymbolName, moduleSymbolTable, walkModuleSymbols } from "./module-symbols.ts";

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

/** A module's symbols by address; names stay in the guest. */
interface SortedSymbols {
  readonly table: ModuleSymbolTable;
  readonly values: Float64Array;
  readonly names: Float64Array;
}

/** What one request has learned of modules. A budget is of one request, and nothing of a guest outlives that. */
class AddressIndex {
  readonly kernel: Kernel;
  readonly budget: Budget;
  readonly #areas: readonly Area[];
  readonly #known = new Map<number, AddressDescription>();

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
    const area = this.areaAt(address);
    if (area === undefined) return NOWHERE;
    const { module } = area;
    module.symbols ??= sortedSymbols(kernel, module.at, this.budget);
    const named = this.#symbolIn(module, area, address);
    return { ...named, module: module.name, text: area.text };
  }

  areaAt(address: number): Area | undefined {
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
  #symbolIn({ symbols }: ModuleEntry, area: Area, address: number): { symbol?: string; offset: number } {
    if (symbols === undefined) return { offset: 0 };
    const { values, names } = symbols;
    let last = lastAtOrBelow(values, address);
    for (let tries = 0; last >= 0 && values[last]! >= area.start && tries < MAX_UNNAMED; last--, tries++) {
      // Of those at one place the first of the module's table, as sorted.
      while (last > 0 && values[last - 1] === values[last]) last--;
      for (let same = last; same < values.length && values[same] === values[last]; same++) {
        this.budget.spend();
        const name = moduleSymbolName(this.kernel, symbols.table, names[same]!);
        if (name === undefined || name.length === 0 || isMapping(name)) continue;
        return { symbol: Buffer.from(name).toString("latin1"), offset: address - values[last]! };
      }
    }
    return { offset: 0 };
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
    const module: ModuleEntry = { at, name: Buffer.from(name).toString("latin1"), symbols: undefined };
    for (const { base, size, textSize } of moduleMemoryAreas(kernel, at)) {
      if (base.hi !== TOP || size === 0) continue;
      const start = base.lo >>> 0;
      if (textSize > 0) areas.push({ start, end: start + Math.min(textSize, size), text: true, module });
      if (textSize < size) areas.push({ start: start + textSize, end: start + size, text: false, module });
    }
  }
  return areas.sort((a, b) => a.start - b.start);
}

/** Undefined when the module's table can't be read. */
function sortedSymbols(kernel: Kernel, module: Halves, budget: Budget): SortedSymbols | undefined {
  const table = moduleSymbolTable(kernel, module);
  if (table === undefined) return undefined;
  const found: number[] = [];
  walkModuleSymbols(kernel, table, budget, (index, hi, lo, name, section) => {
    // An undefined symbol is another module's; the address and the order in one number sort as both.
    if (index > 0 && section !== 0 && hi === TOP) found.push((lo >>> 0) * MAX_ORDER + found.length, name);
    return true;
  });
  const count = found.length / 2;
  const order = Float64Array.from({ length: count }, (_, i) => found[i * 2]!).sort();
  const values = order.map((key) => Math.floor(key / MAX_ORDER));
  const names = order.map((key) => found[(key % MAX_ORDER) + 1]!);
  return { table, values, names };
}

/** More than twice the symbols of a module; with 32 bits of an address still exact in a number. */
const MAX_ORDER = 1 << 19;

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
