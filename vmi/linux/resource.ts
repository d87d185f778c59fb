import type { Budget } from "../budget.ts";
import { type Gva, gvaOf, type Halves } from "../bytes/address.ts";
import { struct, symbol } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { isNull, readCString, readPointer } from "./read.ts";

const iomemResource = symbol("iomem_resource");
/** include/linux/ioport.h */
const resource = struct("resource", {
  start: "start",
  end: "end",
  name: "name",
  sibling: "sibling",
  child: "child",
});

export interface IomemEntry {
  readonly depth: number;
  /** A physical address, which the kernel keeps in 64 bits. */
  readonly start: Gva;
  /** Inclusive. */
  readonly end: Gva;
  readonly name: Uint8Array | undefined;
}

const MAX_ENTRIES = 65_536;
const MAX_DEPTH = 32;
const MAX_NAME = 256;

/** The tree of /proc/iomem, in its order; stops at `undefined` when an entry can't be read, or there is no end of them. */
export function* walkIomem(kernel: Kernel, budget: Budget): Generator<IomemEntry | undefined> {
  const layout = kernel.layout(resource);
  const root = readPointer(kernel.space, kernel.place(iomemResource), layout.child);
  if (root === undefined) yield undefined;
  const pending: { at: Halves; depth: number }[] = root && !isNull(root) ? [{ at: root, depth: 0 }] : [];
  for (let entries = 0; pending.length > 0; entries++) {
    if (entries === MAX_ENTRIES) {
      yield undefined;
      return;
    }
    budget.spend();
    const { at, depth } = pending.pop()!;
    const start = readPointer(kernel.space, at, layout.start);
    const end = readPointer(kernel.space, at, layout.end);
    const sibling = readPointer(kernel.space, at, layout.sibling);
    const child = readPointer(kernel.space, at, layout.child);
    if (start === undefined || end === undefined || sibling === undefined || child === undefined) {
      yield undefined;
      return;
    }
    const nameAt = readPointer(kernel.space, at, layout.name);
    const name = nameAt && !isNull(nameAt) ? readCString(kernel.space, nameAt, MAX_NAME) : undefined;
    yield { depth, start: gvaOf(start.hi, start.lo), end: gvaOf(end.hi, end.lo), name };
    if (!isNull(sibling)) pending.push({ at: sibling, depth });
    if (isNull(child)) continue;
    if (depth === MAX_DEPTH) {
      yield undefined;
      return;
    }
    pending.push({ at: child, depth: depth + 1 });
  }
}
