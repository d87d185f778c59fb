import type { Budget } from "../budget.ts";
import { type Halves, numberOf } from "../bytes/address.ts";
import { struct, symbol } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { mapleEntryAt, walkMapleTree } from "./maple-tree.ts";
import { isNull, plus, readCString, readPointer, sameAddress } from "./read.ts";

const mm = struct("mm_struct", {
  /** From 6.1 (524e00b36e8c) areas are in a maple tree; before, they hang on one another (`mmap`). */
  mm_mt: "?mm_mt",
  mmap: "?mmap",
  start_brk: "start_brk",
  brk: "brk",
  start_stack: "start_stack",
});
/** include/linux/mm_types.h */
const vmArea = struct("vm_area_struct", {
  vm_start: "vm_start",
  vm_end: "vm_end",
  vm_mm: "vm_mm",
  vm_flags: "vm_flags",
  vm_pgoff: "vm_pgoff",
  vm_file: "vm_file",
  vm_ops: "vm_ops",
  vm_private_data: "vm_private_data",
  vm_next: "?vm_next",
  /** From 5.17 (9a10064f5625), with CONFIG_ANON_VMA_NAME. */
  anon_name: "?anon_name",
});
const anonName = struct("?anon_vma_name", { name: "name" });
const specialMapping = struct("?vm_special_mapping", { name: "name" });
const specialMappingOps = symbol("?special_mapping_vmops");

/** include/linux/mm.h */
export const VM = { READ: 0x1, WRITE: 0x2, EXEC: 0x4, MAYSHARE: 0x80 } as const;

/** A process can be allowed more (vm.max_map_count is 65,530 unless raised), but none has that many. */
const MAX_AREAS = 1 << 18;
const ATTEMPTS = 3;
const NULL: Halves = { hi: 0, lo: 0 };
/** ANON_VMA_NAME_MAX_LEN */
const MAX_NAME = 80;

export interface Vma {
  /** Address of the vm_area_struct. */
  readonly at: Halves;
  readonly start: Halves;
  readonly end: Halves;
  /** The lower 32 bits; see VM. */
  readonly flags: number;
  /** Pages from the start of the file. */
  readonly pageOffset: number;
  readonly file: Halves | undefined;
}

export interface Vmas {
  readonly areas: readonly Vma[];
  /** False when they could not be followed to the end. */
  readonly complete: boolean;
  readonly retried: number;
}

/**
 * The areas of an address space, ascending. Each must name that address space, and begin where or after the one before
 * it ends; else they changed while they were read, and are read anew.
 */
export function walkVmas(kernel: Kernel, mmAt: Halves, budget: Budget): Vmas {
  let best: Vma[] = [];
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    if (attempt > 0) kernel.dropCaches();
    const areas: Vma[] = [];
    if (walkOnce(kernel, mmAt, budget, areas)) return { areas, complete: true, retried: attempt };
    if (areas.length > best.length) best = areas;
  }
  return { areas: best, complete: false, retried: ATTEMPTS };
}

/** False for an area that has been unmapped since it was found: what it had may be another's by now. */
export function isMapped(kernel: Kernel, mmAt: Halves, area: Vma, budget: Budget): boolean {
  const { mm_mt } = kernel.layout(mm);
  const { vm_mm, vm_file } = kernel.layout(vmArea);
  const owner = readPointer(kernel.space, area.at, vm_mm);
  const file = readPointer(kernel.space, area.at, vm_file);
  if (owner === undefined || file === undefined || !sameAddress(owner, mmAt)) return false;
  if (!sameAddress(file, area.file ?? NULL)) return false;
  if (mm_mt < 0) return true;
  const now = mapleEntryAt(kernel, plus(mmAt, mm_mt), numberAt(area.start), budget);
  return now !== undefined && sameAddress(now, area.at);
}

function walkOnce(kernel: Kernel, mmAt: Halves, budget: Budget, areas: Vma[]): boolean {
  const layout = kernel.layout(mm);
  const add = (at: Halves): boolean => {
    budget.spend();
    const area = readVma(kernel, at, mmAt);
    const last = areas.at(-1);
    if (area === undefined || (last !== undefined && numberAt(area.start) < numberAt(last.end))) return false;
    return areas.push(area) < MAX_AREAS;
  };
  if (layout.mm_mt >= 0) return walkMapleTree(kernel, plus(mmAt, layout.mm_mt), budget, add);
  const { vm_next } = kernel.layout(vmArea);
  if (layout.mmap < 0 || vm_next < 0) return false;
  let at = readPointer(kernel.space, mmAt, layout.mmap);
  while (at !== undefined && !isNull(at)) {
    if (!add(at)) return false;
    at = readPointer(kernel.space, at, vm_next);
  }
  return at !== undefined;
}

function readVma(kernel: Kernel, at: Halves, mmAt: Halves): Vma | undefined {
  const layout = kernel.layout(vmArea);
  const index = kernel.space.borrow(at.hi, at.lo, layout.extent);
  if (index < 0) return undefined;
  const { view } = kernel.memory;
  const member = (offset: number): Halves => ({
    hi: view.getInt32(index + offset + 4, true),
    lo: view.getInt32(index + offset, true),
  });
  const start = member(layout.vm_start);
  const end = member(layout.vm_end);
  const flags = member(layout.vm_flags);
  const offset = member(layout.vm_pgoff);
  const file = member(layout.vm_file);
  if (!sameAddress(member(layout.vm_mm), mmAt) || numberAt(start) >= numberAt(end)) return undefined;
  return {
    at,
    start,
    end,
    flags: flags.lo,
    pageOffset: numberAt(offset),
    file: isNull(file) ? undefined : file,
  };
}

/** As /proc/PID/maps writes them. */
export function permissionsOf({ flags }: Vma): string {
  return (
    (flags & VM.READ ? "r" : "-") +
    (flags & VM.WRITE ? "w" : "-") +
    (flags & VM.EXEC ? "x" : "-") +
    (flags & VM.MAYSHARE ? "s" : "p")
  );
}

const numberAt = ({ hi, lo }: Halves) => numberOf(hi, lo);

export type VmaKind = "file" | "anonymous" | "heap" | "stack" | "special";

/** What an area is for, as /proc/PID/maps tells (fs/proc/task_mmu.c: show_map_vma), with the name that it shows for one without a file. */
export function describeVma(kernel: Kernel, mmAt: Halves, area: Vma): { kind: VmaKind; name: Uint8Array | undefined } {
  if (area.file !== undefined) return { kind: "file", name: undefined };
  const { space } = kernel;
  const layout = kernel.layout(vmArea);
  const operations = readPointer(space, area.at, layout.vm_ops);
  const special = kernel.optionalPlace(specialMappingOps);
  if (operations && special && sameAddress(operations, special)) {
    const mapping = readPointer(space, area.at, layout.vm_private_data);
    const name = mapping && readPointer(space, mapping, kernel.layout(specialMapping).name);
    return { kind: "special", name: name && readCString(space, name, MAX_NAME) };
  }
  const { start_brk, brk, start_stack } = kernel.layout(mm);
  const bounds = [start_brk, brk, start_stack].map((member) => readPointer(space, mmAt, member));
  const [heapStart, heapEnd, stack] = bounds.map((bound) => (bound === undefined ? Number.NaN : numberAt(bound)));
  const [start, end] = [numberAt(area.start), numberAt(area.end)];
  if (start < heapEnd! && end > heapStart!) return { kind: "heap", name: HEAP };
  if (start <= stack! && end >= stack!) return { kind: "stack", name: STACK };
  const named = layout.anon_name < 0 ? undefined : readPointer(space, area.at, layout.anon_name);
  const text = named && !isNull(named) && kernel.layout(anonName).name >= 0;
  const bytes = text ? readCString(space, plus(named, kernel.layout(anonName).name), MAX_NAME) : undefined;
  return { kind: "anonymous", name: bytes && Buffer.concat([ANON, bytes, CLOSE]) };
}

const HEAP = Buffer.from("[heap]");
const STACK = Buffer.from("[stack]");
const ANON = Buffer.from("[anon:");
const CLOSE = Buffer.from("]");
