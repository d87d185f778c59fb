import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import type { Kernel } from "../linux/kernel.ts";
import { describeAddress, symbolText } from "../linux/kernel-address.ts";
import { halvesOf } from "../linux/mm.ts";
import { readPointer } from "../linux/read.ts";
import { slabSpans } from "../linux/slab-frames.ts";
import { mappedSpans } from "../memory/mapped-spans.ts";
import { symbol } from "../symbols/specs.ts";
import type { Place, Region } from "./region.ts";
import type { Windows } from "./windows.ts";

/** Moved by KASLR (CONFIG_DYNAMIC_MEMORY_LAYOUT); fixed otherwise (Documentation/arch/x86/x86_64/mm.rst). */
const vmallocBase = symbol("?vmalloc_base");
const VMALLOC: Readonly<Record<number, bigint>> = { 48: 0xffff_c900_0000_0000n, 57: 0xffa0_0000_0000_0000n };
/** VMALLOC_SIZE_TB_L4 and _L5 (arch/x86/include/asm/pgtable_64_types.h), in bytes. */
const VMALLOC_SIZE: Readonly<Record<number, bigint>> = { 48: 32n << 40n, 57: 12_800n << 40n };
/** Image, modules and what is made at run time, such as BPF programs: __START_KERNEL_map to the end. */
const TOP = 0xffff_ffff_8000_0000n;
const END = 1n << 64n;

/** The kernel's own memory: its image and modules, then what vmalloc() gave out, then the objects of its slabs. */
export function* kernelRegions(kernel: Kernel, windows: Windows, budget: Budget): Generator<Region> {
  const at = (address: bigint) => describeTop(kernel, halvesOf(address), budget);
  for (const window of windows.of(mappedSpans(kernel.space, TOP, END, budget))) yield { ...window, place: at };
  const bits = kernel.space.mmu.virtualBits;
  const base = vmallocStart(kernel) ?? 0n;
  // No guest's word takes the walk out of the kernel's half.
  if (base >= END - (1n << BigInt(bits - 1))) {
    const end = base + VMALLOC_SIZE[bits]!;
    const spans = mappedSpans(kernel.space, base, end < TOP ? end : TOP, budget);
    for (const window of windows.of(spans)) yield { ...window, place: () => VMALLOCED };
  }
  for (const window of windows.of(slabSpans(kernel, budget))) yield { ...window, place: () => SLAB };
}

const VMALLOCED: Place = { kind: "kernel", area: "vmalloc", module: undefined, symbol: undefined };
const SLAB: Place = { kind: "kernel", area: "slab", module: undefined, symbol: undefined };

function vmallocStart(kernel: Kernel): bigint | undefined {
  const place = kernel.optionalPlace(vmallocBase);
  if (place === undefined) return VMALLOC[kernel.space.mmu.virtualBits];
  const base = readPointer(kernel.space, place);
  return base && ((BigInt(base.hi >>> 0) << 32n) | BigInt(base.lo >>> 0)) & ~0xfffn;
}

function describeTop(kernel: Kernel, at: Halves, budget: Budget): Place {
  const found = describeAddress(kernel, at, budget);
  const area = found.module === undefined ? (found.symbol === undefined ? "other" : "image") : "module";
  return { kind: "kernel", area, module: found.module, symbol: symbolText(found) };
}
