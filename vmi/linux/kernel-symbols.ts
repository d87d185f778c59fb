import type { Budget } from "../budget.ts";
import { gvaOf, hiOf, loOf } from "../bytes/address.ts";
import type { KernelSymbol } from "../symbols/kallsyms.ts";
import type { Kernel } from "./kernel.ts";
import { moduleName, moduleState, walkModules } from "./module.ts";
import { moduleExports, moduleLetter, readModuleSymbols } from "./module-symbols.ts";
import { latin1 } from "./read.ts";

/** A symbol as it lies in its table: its parts are good until the next. */
export interface SymbolEntry {
  readonly name: string;
  readonly type: string;
  readonly hi: number;
  readonly lo: number;
  /** Number in its table. */
  readonly index: number;
  /** Undefined for the kernel's own. */
  readonly module: string | undefined;
}

export interface SymbolWalk {
  /** Times that the module list was walked anew. */
  readonly retried: number;
  /** What could not be read, in words. */
  readonly missing: readonly string[];
}

/**
 * Visits symbols in the order of /proc/kallsyms: the kernel's own by address, then each module's in its own order.
 *
 * @param names of these only; all when undefined
 * @param modules of these only, where an empty name is the kernel itself; all when undefined
 * @param visit returns false when no more are wanted
 */
export function walkSymbols(
  kernel: Kernel,
  names: ReadonlySet<string> | undefined,
  modules: ReadonlySet<string> | undefined,
  budget: Budget,
  visit: (symbol: SymbolEntry) => boolean,
): SymbolWalk {
  return modules?.has("") === false || walkOwn(kernel, names, budget, visit)
    ? walkModuleSymbols(kernel, names, modules, budget, visit)
    : { retried: 0, missing: [] };
}

function walkModuleSymbols(
  kernel: Kernel,
  names: ReadonlySet<string> | undefined,
  modules: ReadonlySet<string> | undefined,
  budget: Budget,
  visit: (symbol: SymbolEntry) => boolean,
): SymbolWalk {
  const list = walkModules(kernel, budget);
  const missing = list.complete ? [] : ["the module list could not be followed to its end"];
  for (let i = 0; i < list.count; i++) {
    const module = { hi: list.hi[i]!, lo: list.lo[i]! };
    if (moduleState(kernel, module) === undefined) continue;
    const nameBytes = moduleName(kernel, module);
    if (nameBytes !== undefined && modules?.has(latin1(nameBytes)) === false) continue;
    const symbols = readModuleSymbols(kernel, module, budget);
    if (symbols === undefined || nameBytes === undefined) {
      missing.push(`the symbols of module ${i} could not be read`);
      continue;
    }
    const name = latin1(nameBytes);
    let exports: ReadonlySet<string> | undefined;
    for (let index = 0; index < symbols.count; index++) {
      const own = latin1(symbols.name(index));
      if (own === "" || (names !== undefined && !names.has(own))) continue;
      exports ??= moduleExports(kernel, module, budget);
      const type = moduleLetter(symbols, index, exports);
      if (!visit({ name: own, type, hi: symbols.hi(index), lo: symbols.lo(index), index, module: name })) {
        return { retried: list.retried, missing };
      }
    }
  }
  return { retried: list.retried, missing };
}

function walkOwn(
  kernel: Kernel,
  names: ReadonlySet<string> | undefined,
  budget: Budget,
  visit: (symbol: SymbolEntry) => boolean,
): boolean {
  const { kallsyms } = kernel;
  const entry = ({ name, type, address, index }: KernelSymbol) => {
    budget.spend();
    return visit({ name, type, hi: hiOf(address), lo: loOf(address), index, module: undefined });
  };
  if (names === undefined) {
    for (const symbol of kallsyms) if (!entry(symbol)) return false;
    return true;
  }
  // A pass over all names, without expanding them.
  budget.spend(1 + (kallsyms.count >>> 6));
  let wanted = true;
  kallsyms.search(names, (_, where) => {
    const symbol = kallsyms.at(where);
    wanted = symbol === undefined || entry(symbol);
    return wanted;
  });
  return wanted;
}

/** The first symbol of each name. Modules are looked at only for what the kernel itself does not have. */
export function firstSymbols(kernel: Kernel, names: readonly string[], budget: Budget): Map<string, KernelSymbol> {
  const found = new Map<string, KernelSymbol>();
  for (const [name, where] of kernel.kallsyms.find(names)) {
    const symbol = kernel.kallsyms.at(where);
    if (symbol !== undefined) found.set(name, symbol);
  }
  const others = new Set(names.filter((name) => !found.has(name)));
  if (others.size === 0) return found;
  walkModuleSymbols(kernel, others, undefined, budget, ({ name, type, hi, lo, index, module }) => {
    if (!found.has(name)) found.set(name, { index, name, type, address: gvaOf(hi, lo), module: module! });
    others.delete(name);
    return others.size > 0;
  });
  return found;
}
