import type { Budget } from "../budget.ts";
import { type Halves, numberOf, PAGE_SHIFT } from "../bytes/address.ts";
import { struct, symbol } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { type Addresses, walkList } from "./list.ts";
import { plus, readCString, readNumber, readPointer, readU32 } from "./read.ts";

const modules = symbol("modules");
/** kernel/panic.c */
const taintedMask = symbol("?tainted_mask");

/** include/linux/module.h */
export const moduleStruct = struct("module", {
  list: "list",
  name: "name",
  state: "state",
  taints: "taints",
  /** A bool, with CONFIG_MODULE_SIG. */
  sig_ok: "?sig_ok",
  refcnt: "?refcnt",
  source_list: "?source_list",
  version: "?version",
  srcversion: "?srcversion",
  init: "init",
  exit: "?exit",
  /** From 6.4 (ac3b43283923): an array of struct module_memory; before, two struct module_layout. */
  mem: "?mem",
  core_layout: "?core_layout",
  init_layout: "?init_layout",
  kallsyms: "?kallsyms",
  syms: "?syms",
  num_syms: "?num_syms",
  kp: "?kp",
  num_kp: "?num_kp",
  sect_attrs: "?sect_attrs",
});
const moduleMemory = struct("?module_memory", { base: "base", size: "size" });
const moduleLayout = struct("?module_layout", { base: "base", size: "size", text_size: "?text_size" });
const moduleUse = struct("?module_use", { source_list: "source_list", source: "source" });

/** MOD_TEXT comes first of the kinds of memory that a module has, MOD_MEM_NUM_TYPES of them. */
const MEMORY_TYPES = 7;
const MOD_TEXT = 0;
const MOD_INIT_TEXT = 4;
/** The largest drivers have some 4 MiB. */
const MAX_TEXT = 32 << 20;
/** A page to be copied and hashed takes as long as so many elements of a list. */
const PAGE_COST = 64;
/** All modules together have less than 2 GiB. */
const MAX_MODULE_SIZE = 0x7fff_ffff;
/** MODULE_NAME_LEN is 64 less a pointer. */
const MODULE_NAME_LEN = 56;
const MAX_MODULES = 65_536;
/** MODULE_REF_BASE (kernel/module/main.c): a live module's own reference. */
const MODULE_REF_BASE = 1;
/** enum module_state, as /proc/modules words it. */
const STATES = ["Live", "Loading", "Unloading", "Unformed"];
const UNFORMED = 3;

export function walkModules(kernel: Kernel, budget: Budget): Addresses {
  return walkList(kernel, kernel.place(modules), kernel.layout(moduleStruct).list, MAX_MODULES, budget);
}

export function moduleName(kernel: Kernel, module: Halves): Uint8Array | undefined {
  const { name } = kernel.layout(moduleStruct);
  return readCString(kernel.space, plus(module, name), MODULE_NAME_LEN);
}

/** As /proc/modules words it; undefined for one that is being set up, which /proc/modules leaves out. */
export function moduleState(kernel: Kernel, module: Halves): string | undefined {
  const state = readU32(kernel.space, module, kernel.layout(moduleStruct).state);
  return state === undefined || state === UNFORMED ? undefined : STATES[state];
}

/** Where its text is and how large it is altogether, bytes. */
export function moduleExtent(kernel: Kernel, module: Halves): { base: Halves; size: number } | undefined {
  const layout = kernel.layout(moduleStruct);
  if (layout.mem >= 0) {
    const memory = kernel.layout(moduleMemory);
    let size = 0;
    for (let type = 0; type < MEMORY_TYPES; type++) {
      size += readU32(kernel.space, module, layout.mem + type * memory.sizeof + memory.size) ?? 0;
    }
    const base = readPointer(kernel.space, module, layout.mem + memory.base);
    return base && { base, size };
  }
  const before64 = kernel.layout(moduleLayout);
  const base = readPointer(kernel.space, module, layout.core_layout + before64.base);
  const core = readU32(kernel.space, module, layout.core_layout + before64.size);
  const init = readU32(kernel.space, module, layout.init_layout + before64.size) ?? 0;
  return base && core !== undefined ? { base, size: core + init } : undefined;
}

/** A piece of a module's memory, of which the first `textSize` bytes are executable. */
export interface ModuleMemory {
  readonly base: Halves;
  readonly size: number;
  readonly textSize: number;
  /** Serves only while the module starts. */
  readonly init: boolean;
}

/** Where the module's text and data are. */
export function moduleMemoryAreas(kernel: Kernel, module: Halves): ModuleMemory[] {
  const layout = kernel.layout(moduleStruct);
  const areas: ModuleMemory[] = [];
  const add = (at: number, own: { base: number; size: number }, text: number | "all" | "none", init: boolean) => {
    const base = readPointer(kernel.space, module, at + own.base);
    const size = readU32(kernel.space, module, at + own.size);
    if (base === undefined || size === undefined || size === 0 || size > MAX_MODULE_SIZE) return;
    const textSize =
      typeof text === "number" ? (readU32(kernel.space, module, at + text) ?? 0) : text === "all" ? size : 0;
    areas.push({ base, size, textSize: Math.min(size, textSize), init });
  };
  if (layout.mem >= 0) {
    const memory = kernel.layout(moduleMemory);
    for (let type = 0; type < MEMORY_TYPES; type++) {
      const text = type === MOD_TEXT || type === MOD_INIT_TEXT ? "all" : "none";
      add(layout.mem + type * memory.sizeof, memory, text, type >= MOD_INIT_TEXT);
    }
    return areas;
  }
  const before64 = kernel.layout(moduleLayout);
  if (before64.text_size < 0) return areas;
  add(layout.core_layout, before64, before64.text_size, false);
  if (layout.init_layout >= 0) add(layout.init_layout, before64, before64.text_size, true);
  return areas;
}

/**
 * The text as it is in memory: static keys, alternatives and tracing have changed what the file says. Undefined when a
 * byte of it can't be read.
 */
export function moduleTextBytes(kernel: Kernel, module: Halves, budget: Budget): Uint8Array | undefined {
  const area = moduleMemoryAreas(kernel, module).find(({ textSize, init }) => textSize > 0 && !init);
  if (area === undefined || area.textSize > MAX_TEXT) return undefined;
  budget.spend(1 + (area.textSize >>> PAGE_SHIFT) * PAGE_COST);
  const bytes = new Uint8Array(area.textSize);
  return kernel.space.read(area.base.hi, area.base.lo, bytes) === bytes.length ? bytes : undefined;
}

/** References beside its own; undefined without CONFIG_MODULE_UNLOAD. */
export function moduleReferences(kernel: Kernel, module: Halves): number | undefined {
  const { refcnt } = kernel.layout(moduleStruct);
  const count = refcnt < 0 ? undefined : readU32(kernel.space, module, refcnt);
  return count === undefined ? undefined : (count | 0) - MODULE_REF_BASE;
}

/** Names of the modules that use it, as /proc/modules lists them: each followed by a comma, or `-`. */
export function moduleUsers(kernel: Kernel, module: Halves, budget: Budget): Uint8Array | undefined {
  const { source_list, init, exit } = kernel.layout(moduleStruct);
  const use = kernel.layout(moduleUse);
  if (source_list < 0 || use.source < 0) return undefined;
  const parts: Uint8Array[] = [];
  const users = walkList(kernel, plus(module, source_list), use.source_list, MAX_MODULES, budget);
  for (let i = 0; i < users.count; i++) {
    const source = readPointer(kernel.space, { hi: users.hi[i]!, lo: users.lo[i]! }, use.source);
    const name = source && moduleName(kernel, source);
    if (name !== undefined) parts.push(name, COMMA);
  }
  const hasInit = (readNumber(kernel.space, module, init) ?? 0) !== 0;
  if (hasInit && exit >= 0 && readNumber(kernel.space, module, exit) === 0) parts.push(PERMANENT);
  return parts.length === 0 ? NONE : Buffer.concat(parts);
}

/** A C string that a member points to, such as `version`; undefined when there is none. */
export function moduleText(kernel: Kernel, module: Halves, member: number): Uint8Array | undefined {
  const at = member < 0 ? undefined : readPointer(kernel.space, module, member);
  return at === undefined || numberOf(at.hi, at.lo) === 0 ? undefined : readCString(kernel.space, at, 256);
}

const COMMA = Buffer.from(",");
const NONE = Buffer.from("-");
const PERMANENT = Buffer.from("[permanent],");

/** Letters of the taint flags that a module can carry, by bit (kernel/panic.c: taint_flags). */
const TAINTS: readonly (readonly [number, string])[] = [
  [0, "P"],
  [1, "F"],
  [10, "C"],
  [12, "O"],
  [13, "E"],
  [15, "K"],
  [16, "X"],
  [17, "T"],
  [18, "N"],
  [19, "J"],
];

/** `OE` and the like, in the order of the bits; empty when it has none. */
export function moduleTaints(kernel: Kernel, module: Halves): string | undefined {
  return lettersOf(readU32(kernel.space, module, kernel.layout(moduleStruct).taints));
}

/** Of the taints that modules bring, those that the kernel has had since it booted: also of modules that are gone. */
export function kernelTaints(kernel: Kernel): string | undefined {
  const mask = kernel.optionalPlace(taintedMask);
  return mask && lettersOf(readU32(kernel.space, mask));
}

/** False for a module whose signature the kernel did not find right; undefined where it looks at none. */
export function isSigned(kernel: Kernel, module: Halves): boolean | undefined {
  const { sig_ok } = kernel.layout(moduleStruct);
  const word = sig_ok < 0 ? undefined : readU32(kernel.space, module, sig_ok);
  return word === undefined ? undefined : (word & 0xff) !== 0;
}

function lettersOf(taints: number | undefined): string | undefined {
  if (taints === undefined) return undefined;
  return TAINTS.filter(([bit]) => (taints >>> bit) & 1)
    .map(([, letter]) => letter)
    .join("");
}
