import type { Budget } from "../budget.ts";
import { type Halves, PAGE_SHIFT, PAGE_SIZE } from "../bytes/address.ts";
import { pageNumber } from "../memory/mappings.ts";
import { struct, symbol } from "../symbols/specs.ts";
import { bpfMap, walkBpf } from "./bpf.ts";
import { ftraceOps } from "./ftrace.ts";
import type { Kernel } from "./kernel.ts";
import { walkList } from "./list.ts";
import { walkMadeCode } from "./made-code.ts";
import { mapleEntryAt } from "./maple-tree.ts";
import { beyond, directMap, memmap } from "./memmap.ts";
import { moduleMemoryAreas, walkModules } from "./module.ts";
import { isNull, plus, readPointer, readU32 } from "./read.ts";

/** Where the kernel has code, by what it keeps lists of: whatever else is executable is nobody's. */

const text = symbol("_text");
const end = symbol("_end");
/** kernel/bpf/core.c, from 5.18 (57631054fae6): programs and trampolines share 2 MiB, of which some is free. */
const packList = symbol("?pack_list");
const bpfProgPack = struct("?bpf_prog_pack", { list: "list", ptr: "ptr" });
/** Calls from a struct_ops of BPF: no list of symbols has them. `image` until 6.9, `image_pages` from then on (187e2af05abe). */
const structOpsMap = struct("?bpf_struct_ops_map", { map: "map", image: "?image", image_pages: "?image_pages" });
const BPF_MAP_TYPE_STRUCT_OPS = 26;
/** MAX_TRAMP_IMAGE_PAGES, with room. */
const MAX_IMAGE_PAGES = 64;
/** From 5.9 (fc0ea795f53c): ftrace's trampolines until they are freed, which is long after the ops are off the other list. */
const trampolineOps = symbol("?ftrace_ops_trampoline_list");
const trampoline = struct("?ftrace_ops", { list: "?list", size: "?trampoline_size" });
/** arch/x86/kernel/alternative.c, from 6.15 and its stable series: thunks for processors with ITS. */
const itsPages = symbol("?its_pages");
const itsArray = struct("?its_array", { pages: "pages", num: "num" });
const moduleThunks = struct("module", { its_pages: "?arch.its_pages" });
/** mm/execmem.c, from 6.13 (2e45474ab14f): large pages that are executable before anybody has them. */
const execmemCache = symbol("?execmem_cache");
const execmemCacheLayout = struct("?execmem_cache", { free_areas: "free_areas" });
/** arch/x86/hyperv/hv_init.c */
const hypercallPage = symbol("?hv_hypercall_pg");
/** What kexec -l and kdump have loaded: one page each is executable from 6.14 on. */
const kexecImages = [symbol("?kexec_image"), symbol("?kexec_crash_image")];
const kimage = struct("?kimage", { control_code_page: "control_code_page" });

const MAX_PIECES = 65_536;
const PACK_PAGES = 512;

/** Pages from `first` up to before `end`, by their numbers. */
export interface PageRange {
  readonly first: number;
  readonly end: number;
}

/** Where code is: the image, modules that are listed, and what the kernel made; in no order, and it may overlap. */
export function codeAreas(kernel: Kernel, budget: Budget): { areas: PageRange[]; complete: boolean } {
  const areas: PageRange[] = [];
  const add = (at: Halves | undefined, size: number): void => {
    if (at === undefined || isNull(at) || size <= 0) return;
    const first = pageNumber(at);
    areas.push({ first, end: first + Math.ceil(((at.lo & (PAGE_SIZE - 1)) + size) / PAGE_SIZE) });
  };
  areas.push({ first: pageNumber(kernel.place(text)), end: pageNumber(plus(kernel.place(end), PAGE_SIZE - 1)) });
  const modules = walkModules(kernel, budget);
  const thunks = kernel.layout(moduleThunks).its_pages;
  for (let i = 0; i < modules.count; i++) {
    const at = { hi: modules.hi[i]!, lo: modules.lo[i]! };
    for (const { base, textSize } of moduleMemoryAreas(kernel, at)) add(base, textSize);
    if (thunks >= 0) addArray(kernel, plus(at, thunks), budget, add);
  }
  const made = walkMadeCode(kernel, budget);
  for (const { start, size } of made.pieces) add(start, size);
  const packs = addPacks(kernel, budget, add);
  const trampolines = addTrampolines(kernel, budget, add);
  addStructOps(kernel, budget, add);
  const own = kernel.optionalPlace(itsPages);
  if (own !== undefined) addArray(kernel, own, budget, add);
  const hypercalls = kernel.optionalPlace(hypercallPage);
  if (hypercalls !== undefined) add(readPointer(kernel.space, hypercalls), PAGE_SIZE);
  addKexec(kernel, add);
  return { areas, complete: modules.complete && made.complete && packs && trampolines };
}

type Add = (at: Halves | undefined, size: number) => void;

function addPacks(kernel: Kernel, budget: Budget, add: Add): boolean {
  const place = kernel.optionalPlace(packList);
  const { list, ptr } = kernel.layout(bpfProgPack);
  if (place === undefined || list < 0) return true;
  const packs = walkList(kernel, place, list, MAX_PIECES, budget);
  for (let i = 0; i < packs.count; i++)
    add(readPointer(kernel.space, { hi: packs.hi[i]!, lo: packs.lo[i]! }, ptr), PACK_PAGES * PAGE_SIZE);
  return packs.complete;
}

function addTrampolines(kernel: Kernel, budget: Budget, add: Add): boolean {
  const place = kernel.optionalPlace(trampolineOps);
  const { list, size } = kernel.layout(trampoline);
  const { trampoline: at } = kernel.layout(ftraceOps);
  if (place === undefined || list < 0 || size < 0 || at < 0) return true;
  const found = walkList(kernel, place, list, MAX_PIECES, budget);
  for (let i = 0; i < found.count; i++) {
    const ops = { hi: found.hi[i]!, lo: found.lo[i]! };
    add(readPointer(kernel.space, ops, at), Math.min(readU32(kernel.space, ops, size) ?? 0, PAGE_SIZE * 16));
  }
  return found.complete;
}

function addStructOps(kernel: Kernel, budget: Budget, add: Add): void {
  const layout = kernel.layout(structOpsMap);
  const { map_type } = kernel.layout(bpfMap);
  if (layout.map < 0) return;
  walkBpf(kernel, "map", budget, (_, map) => {
    if (readU32(kernel.space, map, map_type) !== BPF_MAP_TYPE_STRUCT_OPS) return true;
    const own = plus(map, -layout.map);
    if (layout.image >= 0) add(readPointer(kernel.space, own, layout.image), PAGE_SIZE);
    for (let i = 0; layout.image_pages >= 0 && i < MAX_IMAGE_PAGES; i++) {
      const page = readPointer(kernel.space, own, layout.image_pages + i * 8);
      // The array ends within the structure: what follows is no address of the kernel's.
      if (page === undefined || page.hi !== -1) break;
      add(page, PAGE_SIZE);
    }
    return true;
  });
}

function addArray(kernel: Kernel, array: Halves, budget: Budget, add: Add): void {
  const { pages, num } = kernel.layout(itsArray);
  if (pages < 0) return;
  const count = readU32(kernel.space, array, num) ?? 0;
  const at = readPointer(kernel.space, array, pages);
  for (let i = 0; at !== undefined && i < Math.min(count, MAX_PIECES); i++) {
    budget.spend();
    add(readPointer(kernel.space, at, i * 8), PAGE_SIZE);
  }
}

function addKexec(kernel: Kernel, add: Add): void {
  const { control_code_page } = kernel.layout(kimage);
  const map = memmap(kernel);
  const direct = directMap(kernel);
  if (control_code_page < 0 || map === undefined || direct === undefined) return;
  for (const spec of kexecImages) {
    const place = kernel.optionalPlace(spec);
    const image = place && readPointer(kernel.space, place);
    const page = image && !isNull(image) ? readPointer(kernel.space, image, control_code_page) : undefined;
    if (page === undefined || isNull(page)) continue;
    const bytes = (page.hi - map.base.hi) * 0x1_0000_0000 + ((page.lo >>> 0) - (map.base.lo >>> 0));
    // KEXEC_CONTROL_PAGE_SIZE is one page, or two before.
    add(beyond(direct, Math.floor(bytes / map.size) * PAGE_SIZE), 2 * PAGE_SIZE);
  }
}

/** True for a page of what the kernel holds ready for code, and has given to nobody. */
export function isReadyForCode(kernel: Kernel, page: number, budget: Budget): boolean {
  const place = kernel.optionalPlace(execmemCache);
  const { free_areas } = kernel.layout(execmemCacheLayout);
  if (place === undefined || free_areas < 0) return false;
  // The middle of a page: ends of areas are rounded to it, as such numbers are exact up to 2^53 only.
  return mapleEntryAt(kernel, plus(place, free_areas), page * 2 ** PAGE_SHIFT + PAGE_SIZE / 2, budget) !== undefined;
}

/**
 * True when BPF keeps no packs, and the pages begin as an image of the JIT's does: with their number, and instructions that
 * trap (struct bpf_binary_header). Programs of the classic kind, such as seccomp's, are on no list there.
 */
export function isJitImage(kernel: Kernel, at: Halves, pages: number): boolean {
  if (kernel.optionalPlace(packList) !== undefined) return false;
  const size = readU32(kernel.space, at);
  return (size === pages || size === pages * PAGE_SIZE) && readU32(kernel.space, at, 8) === 0xcccc_cccc;
}
