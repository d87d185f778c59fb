import { type Halves, PAGE_SIZE } from "../bytes/address.ts";
import { pageAddress } from "../memory/mappings.ts";
import type { Kernel } from "./kernel.ts";
import { moduleMemoryAreas, moduleName, moduleStruct } from "./module.ts";
import { moduleLinks } from "./module-views.ts";
import { plus, readPointer, readU32, sameAddress } from "./read.ts";

/** struct module is aligned as cache lines are. */
const ALIGNMENT = 64;
/** enum module_state has four. */
const MAX_STATE = 3;

/**
 * What looks like a struct module on a page: it has a pointer to itself where each has one (mkobj.mod), a name, and memory
 * of its own. No list is needed for that, and the kernel can't do without the pointer.
 */
export function modulesOnPage(kernel: Kernel, page: number): Halves[] {
  const { mkobj_mod } = kernel.layout(moduleLinks);
  const start = pageAddress(page);
  const index = kernel.space.resolve(start.hi, start.lo);
  if (mkobj_mod < 0 || index < 0) return [];
  const { view } = kernel.memory;
  const places: Halves[] = [];
  for (let offset = mkobj_mod % ALIGNMENT; offset < PAGE_SIZE; offset += ALIGNMENT) {
    if (view.getInt32(index + offset + 4, true) !== start.hi) continue;
    const at = plus(start, offset - mkobj_mod);
    if (view.getInt32(index + offset, true) === at.lo) places.push(at);
  }
  return places.filter((at) => isModule(kernel, at));
}

/** True for what looks like a struct module. */
export function isModule(kernel: Kernel, at: Halves): boolean {
  const itself = readPointer(kernel.space, at, kernel.layout(moduleLinks).mkobj_mod);
  if (itself === undefined || !sameAddress(itself, at)) return false;
  const state = readU32(kernel.space, at, kernel.layout(moduleStruct).state);
  const name = moduleName(kernel, at);
  if (state === undefined || state > MAX_STATE || name === undefined || name.length === 0) return false;
  return name.every((code) => code > 0x20 && code < 0x7f) && moduleMemoryAreas(kernel, at).length > 0;
}
