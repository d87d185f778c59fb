import type { Budget } from "../budget.ts";
import { addHi, addLo, type Halves, numberOf } from "../bytes/address.ts";
import { type Layout, struct, symbol } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { mapleEntryAt, walkMapleTree } from "./maple-tree.ts";
import type { Memo } from "./memo.ts";
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
  anon_vma: "?anon_vma",
  vm_ops: "vm_ops",
  vm_private_data: "vm_private_data",
  vm_next: "?vm_next",
  /** From 5.17 (9a10064f5625), with CONFIG_ANON_VMA_NAME. */
  anon_name: "?anon_name",
});
type VmaMember = (typeof vmArea)["members"][number]["key"];
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
  /** False for an area of a file of which nothing was ever written: it has no pages of the process's own (anon_vma). */
  readonly mayHaveOwnPages: boolean;
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

/**
 * False for an area that has been unmapped since it was found: what it had may be another's by now. To be asked where
 * what the walk followed is not looked at again afterwards.
 */
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
  const members = kernel.layout(vmArea);
  let lastEnd = 0;
  const add = (hi: number, lo: number): boolean => {
    budget.spend();
    const area = readVma(kernel, members, hi, lo, mmAt);
    if (area === undefined || numberAt(area.start) < lastEnd) return false;
    lastEnd = numberAt(area.end);
    return areas.push(area) < MAX_AREAS;
  };
  if (layout.mm_mt >= 0) return walkMapleTree(kernel, plus(mmAt, layout.mm_mt), budget, add);
  const { vm_next } = members;
  if (layout.mmap < 0 || vm_next < 0) return false;
  let at = readPointer(kernel.space, mmAt, layout.mmap);
  while (at !== undefined && !isNull(at)) {
    if (!add(at.hi, at.lo)) return false;
    at = readPointer(kernel.space, at, vm_next);
  }
  return at !== undefined;
}

function readVma(kernel: Kernel, layout: Layout<VmaMember>, hi: number, lo: number, mmAt: Halves): Vma | undefined {
  const { space, trail } = kernel;
  const index = space.borrow(hi, lo, layout.extent);
  if (index < 0) return undefined;
  const { view } = kernel.memory;
  const owner = index + layout.vm_mm;
  if (view.getInt32(owner, true) !== mmAt.lo || view.getInt32(owner + 4, true) !== mmAt.hi) return undefined;
  const from = index + layout.vm_start;
  const start = { hi: view.getInt32(from + 4, true), lo: view.getInt32(from, true) };
  const to = index + layout.vm_end;
  const end = { hi: view.getInt32(to + 4, true), lo: view.getInt32(to, true) };
  if (numberAt(start) >= numberAt(end)) return undefined;
  const flags = view.getInt32(index + layout.vm_flags, true);
  const offset = index + layout.vm_pgoff;
  const pageOffset = numberOf(view.getInt32(offset + 4, true), view.getInt32(offset, true));
  const own = index + layout.anon_vma;
  const mayHaveOwnPages = layout.anon_vma < 0 || (view.getInt32(own, true) | view.getInt32(own + 4, true)) !== 0;
  const mapped = index + layout.vm_file;
  const fileHi = view.getInt32(mapped + 4, true);
  const fileLo = view.getInt32(mapped, true);
  // Freed with the area, and nothing else tells that a later one has the same memory.
  if (trail.recording) trail.pointer(addHi(hi, lo, layout.vm_file), addLo(lo, layout.vm_file), fileHi, fileLo, mapped);
  const file = (fileHi | fileLo) === 0 ? undefined : { hi: fileHi, lo: fileLo };
  return { at: { hi, lo }, start, end, flags, pageOffset, file, mayHaveOwnPages };
}

/** As /proc/PID/maps writes them. */
export function permissionsOf({ flags }: Vma): string {
  return PERMISSIONS[(flags & (VM.READ | VM.WRITE | VM.EXEC)) | (flags & VM.MAYSHARE ? 8 : 0)]!;
}

/** By VM.READ, VM.WRITE and VM.EXEC, then VM.MAYSHARE as the fourth bit. */
const PERMISSIONS = Array.from(
  { length: 16 },
  (_, bits) => (bits & 1 ? "r" : "-") + (bits & 2 ? "w" : "-") + (bits & 4 ? "x" : "-") + (bits & 8 ? "s" : "p"),
);

const numberAt = ({ hi, lo }: Halves) => numberOf(hi, lo);

export type VmaKind = "file" | "anonymous" | "heap" | "stack" | "special";

/** Where an address space has its heap and its stack. */
export interface Bounds {
  readonly heapStart: number;
  readonly heapEnd: number;
  readonly stack: number;
}

export function boundsOf(kernel: Kernel, mmAt: Halves): Bounds {
  const { start_brk, brk, start_stack } = kernel.layout(mm);
  const bound = (member: number) => {
    const value = readPointer(kernel.space, mmAt, member);
    return value === undefined ? Number.NaN : numberAt(value);
  };
  return { heapStart: bound(start_brk), heapEnd: bound(brk), stack: bound(start_stack) };
}

/**
 * What an area is for, as /proc/PID/maps tells (fs/proc/task_mmu.c: show_map_vma), with the name that it shows for one
 * without a file.
 *
 * @param specials names of the kernel's own mappings, which are the same for all processes
 */
export function describeVma(
  kernel: Kernel,
  { heapStart, heapEnd, stack }: Bounds,
  area: Vma,
  specials: Memo<Uint8Array | undefined>,
): { kind: VmaKind; name: Uint8Array | undefined } {
  if (area.file !== undefined) return FILE;
  const { space } = kernel;
  const layout = kernel.layout(vmArea);
  const operations = readPointer(space, area.at, layout.vm_ops);
  const special = kernel.optionalPlace(specialMappingOps);
  if (operations && special && sameAddress(operations, special)) {
    const mapping = readPointer(space, area.at, layout.vm_private_data);
    return { kind: "special", name: mapping && specials.of(mapping, () => specialName(kernel, mapping)) };
  }
  const start = numberAt(area.start);
  const end = numberAt(area.end);
  if (start < heapEnd && end > heapStart) return { kind: "heap", name: HEAP };
  if (start <= stack && end >= stack) return { kind: "stack", name: STACK };
  const named = layout.anon_name < 0 ? undefined : readPointer(space, area.at, layout.anon_name);
  const text = named && !isNull(named) && kernel.layout(anonName).name >= 0;
  const bytes = text ? readCString(space, plus(named, kernel.layout(anonName).name), MAX_NAME) : undefined;
  return { kind: "anonymous", name: bytes && Buffer.concat([ANON, bytes, CLOSE]) };
}

function specialName(kernel: Kernel, mapping: Halves): Uint8Array | undefined {
  const name = readPointer(kernel.space, mapping, kernel.layout(specialMapping).name);
  return name && readCString(kernel.space, name, MAX_NAME);
}

const FILE = { kind: "file", name: undefined } as const;
const HEAP = Buffer.from("[heap]");
const STACK = Buffer.from("[stack]");
const ANON = Buffer.from("[anon:");
const CLOSE = Buffer.from("]");
