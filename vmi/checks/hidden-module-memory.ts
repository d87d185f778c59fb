import { formatHalves, type Halves, PAGE_SIZE } from "../bytes/address.ts";
import { codeAreas, isJitImage, isReadyForCode, type PageRange } from "../linux/code-areas.ts";
import { modulesChange } from "../linux/init-memory.ts";
import type { Kernel } from "../linux/kernel.ts";
import { directMap } from "../linux/memmap.ts";
import { moduleMemoryAreas, moduleState, walkModules } from "../linux/module.ts";
import { isModule, modulesOnPage } from "../linux/module-remains.ts";
import { pageAddress, pageNumber, walkMappings } from "../memory/mappings.ts";
import { symbol } from "../symbols/specs.ts";
import { type CheckContext, defineCheck } from "./check.ts";
import { describeModule } from "./hidden-modules.ts";

/** __START_KERNEL_map, and MODULES_END (Documentation/arch/x86/x86_64/mm.rst). */
const TOP: PageRange = {
  first: pageNumber({ hi: -1, lo: 0x8000_0000 | 0 }),
  end: pageNumber({ hi: -1, lo: 0xff00_0000 | 0 }),
};
/** Where addresses of the kernel begin, with five levels of page tables too; and where code of the fixmap does, such as vsyscall's. */
const KERNEL: PageRange = { first: pageNumber({ hi: 0xff000000 | 0, lo: 0 }), end: TOP.end };
/** What the first MiB has is for starting and waking processors (arch/x86/realmode), and the firmware's. */
const LOW_PAGES = 256;
/** More is no module's. */
const MAX_PAGES = 1 << 16;
const CODE_BYTES = 32;
const imageEnd = symbol("_end");

export const hiddenModuleMemory = defineCheck({
  name: "hidden-module-memory",
  severity: "critical",
  cost: "walk",
  compares:
    "What the kernel's page tables let it execute, everywhere, with what it has code for: its image, the modules of its " +
    "list, BPF programs, trampolines of BPF and ftrace, slots of probes. And the memory of modules with the list of modules: " +
    "each struct module that is there has a pointer to itself. Memory that is executable and nobody's is found, and by " +
    "what is left of its struct module it gets a name.",
  misses:
    "Code that was written into a listed module, into the free rest of a pack of BPF programs, or into the first MiB. While " +
    "modules are being loaded or unloaded, executable memory that has no struct module is passed over. A module whose " +
    "struct says that it is being set up or taken down is told as info only: for a moment it is on no list.",
  confirm:
    "Read the memory at the address that is told and disassemble it; strings in it tell what it is for. The table " +
    "kernel_modules has what is listed.",
  reads: [
    "swapper_pg_dir",
    "modules, struct module",
    "bpf_kallsyms, pack_list (from 5.18), map_idr",
    "ftrace_ops_list, ftrace_ops_trampoline_list (from 5.9)",
    "kprobe_insn_slots, kprobe_optinsn_slots",
    "its_pages (from 6.15), execmem_cache (from 6.13), hv_hypercall_pg, kexec_image",
  ],
  look: (context) => {
    const { kernel, budget } = context;
    const executable: PageRange[] = [];
    const written: PageRange[] = [];
    const image = pageNumber(kernel.place(imageEnd));
    walkMappings(kernel.space, KERNEL.first, KERNEL.end, budget, (page, pages, _, writable, execute) => {
      if (execute) addRange(executable, page, page + pages);
      if (writable && page > image) addRange(written, page, page + pages);
    });
    // A struct module has counters in it, so that it lies where the kernel may write.
    const strange = without(written, listedMemory(context));
    const hidden = unlisted(
      context,
      strange.flatMap((range) => modulesIn(context, range)),
    );
    const { areas, complete } = codeAreas(kernel, budget);
    const low = directMap(kernel);
    if (low !== undefined) areas.push({ first: pageNumber(low), end: pageNumber(low) + LOW_PAGES });
    if (!complete) context.incomplete("the lists of the kernel's code could not be followed to their end");
    for (const module of hidden) areas.push(...reportModule(context, module));
    const left = without(executable, areas).filter((range) => !isAccountedFor(context, range));
    if (left.length === 0 || !complete) return;
    if (modulesChange(kernel, budget)) {
      context.incomplete("modules are being loaded or unloaded: executable memory that is nobody's was passed over");
      return;
    }
    for (const range of left) reportMemory(context, range);
  },
});

function addRange(ranges: PageRange[], first: number, end: number): void {
  const last = ranges.at(-1);
  if (last !== undefined && last.end === first) ranges[ranges.length - 1] = { first: last.first, end };
  else ranges.push({ first, end });
}

/** What of the ranges, which ascend, is in none of the areas. */
function without(ranges: readonly PageRange[], areas: readonly PageRange[]): PageRange[] {
  const sorted = areas.toSorted((a, b) => a.first - b.first);
  const left: PageRange[] = [];
  for (const { first, end } of ranges) {
    let from = first;
    for (const area of sorted) {
      if (area.end <= from) continue;
      if (area.first >= end) break;
      if (area.first > from) left.push({ first: from, end: area.first });
      from = area.end;
    }
    if (from < end) left.push({ first: from, end });
  }
  return left;
}

function listedMemory({ kernel, budget }: CheckContext): PageRange[] {
  const list = walkModules(kernel, budget);
  return list.hi.flatMap((hi, i) =>
    moduleMemoryAreas(kernel, { hi, lo: list.lo[i]! }).map(({ base, size }) => pagesOf(base, size)),
  );
}

function pagesOf(base: Halves, size: number): PageRange {
  const first = pageNumber(base);
  return { first, end: first + Math.ceil(size / PAGE_SIZE) };
}

function modulesIn({ kernel, budget }: CheckContext, { first, end }: PageRange): Halves[] {
  const found: Halves[] = [];
  for (let page = first; page < Math.min(end, first + MAX_PAGES); page++) {
    budget.spend();
    found.push(...modulesOnPage(kernel, page));
  }
  return found;
}

interface Unlisted {
  readonly at: Halves;
  /** It said that it was loaded before the list was read, and after it: so it was on the list then, if it ever was. */
  readonly loaded: boolean;
}

/** Those that are not on the list of modules. */
function unlisted({ kernel, budget, incomplete }: CheckContext, found: readonly Halves[]): Unlisted[] {
  const before = found.map((at) => isLoaded(kernel, at));
  kernel.dropCaches();
  const list = walkModules(kernel, budget);
  if (!list.complete) incomplete("the module list could not be followed to its end");
  if (!list.complete) return [];
  kernel.dropCaches();
  const listed = new Set(list.hi.map((hi, i) => formatHalves(hi, list.lo[i]!)));
  return found.flatMap((at, i) =>
    listed.has(formatHalves(at.hi, at.lo)) ? [] : { at, loaded: before[i]! && isLoaded(kernel, at) },
  );
}

function isLoaded(kernel: Kernel, at: Halves): boolean {
  return isModule(kernel, at) && moduleState(kernel, at) !== undefined;
}

/** Reports a module, and tells where it has code. */
function reportModule(context: CheckContext, { at, loaded }: Unlisted): PageRange[] {
  const { kernel } = context;
  const { name, base, details } = describeModule(kernel, at);
  context.report({
    what: loaded
      ? `module ${name} is in memory, but not in the module list`
      : `module ${name} is being set up or taken down, or says so`,
    where: `module ${name}`,
    evidence: details,
    expected: "what is in the memory of modules belongs to one that is listed",
    identity: `module ${name}`,
    ...(!loaded && { severity: "info" as const }),
    ...(base && { address: base }),
  });
  return moduleMemoryAreas(kernel, at)
    .filter(({ textSize }) => textSize > 0)
    .map(({ base: start, textSize }) => pagesOf(start, textSize));
}

function isAccountedFor({ kernel, budget }: CheckContext, { first, end }: PageRange): boolean {
  if (isJitImage(kernel, pageAddress(first), end - first)) return true;
  for (let page = first; page < end; page++) if (!isReadyForCode(kernel, page, budget)) return false;
  return true;
}

function reportMemory(context: CheckContext, { first, end }: PageRange): void {
  const at = pageAddress(first);
  const start = formatHalves(at.hi, at.lo);
  const size = (end - first) * PAGE_SIZE;
  const where = first >= TOP.first ? "in the area of modules" : "outside of the area of modules";
  context.report({
    what: `${size} bytes that the kernel can execute belong to no module and to nothing else that it has code for`,
    where: start,
    evidence: `${start}, ${size} bytes ${where}`,
    expected: "the kernel knows whose all of its executable memory is",
    identity: `${size} bytes ${where} at ${start}`,
    address: at,
    ...codeOf(context.kernel, at),
  });
}

function codeOf({ space }: Kernel, at: Halves): { code: { at: Halves; found: Uint8Array } } | undefined {
  const found = new Uint8Array(CODE_BYTES);
  return space.read(at.hi, at.lo, found) === found.length ? { code: { at, found } } : undefined;
}
