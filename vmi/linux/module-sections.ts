import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import { struct } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { moduleMemoryAreas, moduleStruct } from "./module.ts";
import { isNull, plus, readCString, readPointer, readU32 } from "./read.ts";

/** Sections of modules as /sys/module/NAME/sections has them (kernel/module/sysfs.c). */

const sectAttrs = struct("?module_sect_attrs", {
  /** Gone in 6.14 (d8959b947a8d): then the null at the end of grp.bin_attrs says how many there are. */
  nsections: "?nsections",
  attrs: "?attrs",
  bin_attrs: ["?grp.bin_attrs_new", "grp.bin_attrs"],
});
/** Gone in 6.14 (4b2c11e4aaf7): then `attrs` are bin_attribute themselves, and the address is their `private`. */
const sectAttr = struct("?module_sect_attr", {
  /** From 5.8 (ed66f991bb19), and before. */
  name: ["battr.attr.name", "mattr.attr.name"],
  address: "address",
});
const binAttribute = struct("?bin_attribute", { name: "attr.name", address: "private" });

/** e_shnum is 16 bits wide, and no module has a tenth of that. */
const MAX_SECTIONS = 4096;
const MAX_NAME = 256;

export interface ModuleSection {
  readonly name: Uint8Array;
  readonly address: Halves;
  /** Bytes to the next section, or to the end of the memory that it is in; undefined where it is in none of the module's. */
  readonly span: number | undefined;
}

/** Empty without CONFIG_SYSFS, and for what a module took off itself. */
export function moduleSections(kernel: Kernel, module: Halves, budget: Budget): ModuleSection[] {
  const layout = kernel.layout(moduleStruct);
  const group = kernel.layout(sectAttrs);
  if (layout.sect_attrs < 0 || group.attrs < 0) return [];
  const { space } = kernel;
  const at = readPointer(space, module, layout.sect_attrs);
  if (at === undefined || isNull(at)) return [];
  const old = kernel.layout(sectAttr);
  const entry = old.sizeof > 0 ? old : kernel.layout(binAttribute);
  const stated = group.nsections < 0 ? undefined : readU32(space, at, group.nsections);
  const pointers = readPointer(space, at, group.bin_attrs);
  const found: { name: Uint8Array; address: Halves }[] = [];
  for (let i = 0; i < Math.min(stated ?? MAX_SECTIONS, MAX_SECTIONS); i++) {
    budget.spend();
    if (stated === undefined) {
      const pointer = pointers && readPointer(space, pointers, i * 8);
      if (pointer === undefined || isNull(pointer)) break;
    }
    const attribute = plus(at, group.attrs + i * entry.sizeof);
    const nameAt = readPointer(space, attribute, entry.name);
    const name = nameAt && readCString(space, nameAt, MAX_NAME);
    const address = readPointer(space, attribute, entry.address);
    if (name !== undefined && address !== undefined) found.push({ name, address });
  }
  return withSpans(kernel, module, found);
}

function withSpans(
  kernel: Kernel,
  module: Halves,
  sections: readonly { readonly name: Uint8Array; readonly address: Halves }[],
): ModuleSection[] {
  const ends = moduleMemoryAreas(kernel, module).map(({ base, size }) => ({ base, end: (base.lo >>> 0) + size }));
  const starts = sections.map(({ address }) => address.lo >>> 0).sort((a, b) => a - b);
  return sections.map(({ name, address }) => {
    const start = address.lo >>> 0;
    const area = ends.find(({ base, end }) => base.hi === address.hi && start >= base.lo >>> 0 && start < end);
    const next = starts.find((other) => other > start) ?? Number.POSITIVE_INFINITY;
    return { name, address, span: area && Math.min(next, area.end) - start };
  });
}
