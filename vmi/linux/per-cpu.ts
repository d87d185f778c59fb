import type { Halves } from "../bytes/address.ts";
import { symbol } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { readPointer, readU32 } from "./read.ts";

/** kernel/cpu.c: struct cpumask __cpu_possible_mask; arch/x86/kernel/setup_percpu.c: unsigned long __per_cpu_offset[]. */
const possibleMask = symbol("__cpu_possible_mask");
const perCpuOffset = symbol("__per_cpu_offset");
const nrCpuIds = symbol("?nr_cpu_ids");

/** NR_CPUS of x86-64 at its largest (CONFIG_MAXSMP). */
const MAX_CPUS = 8192;
const WORD_BITS = 32;

/** Numbers of the CPUs that the kernel has per-CPU areas for, ascending. */
export function cpus(kernel: Kernel): number[] {
  const { space } = kernel;
  const mask = kernel.place(possibleMask);
  const count = kernel.optionalPlace(nrCpuIds);
  const limit = Math.min((count && readU32(space, count)) ?? MAX_CPUS, MAX_CPUS);
  const found: number[] = [];
  for (let base = 0; base < limit; base += WORD_BITS) {
    const word = readU32(space, mask, base / 8);
    if (word === undefined) break;
    for (let bit = 0; bit < WORD_BITS && base + bit < limit; bit++) if ((word >>> bit) & 1) found.push(base + bit);
  }
  return found;
}

/** Where a CPU has its copy of a per-CPU variable: the variable's own address plus that CPU's offset. */
export function perCpu(kernel: Kernel, base: Halves, cpu: number): Halves | undefined {
  const offset = readPointer(kernel.space, kernel.place(perCpuOffset), cpu * 8);
  if (offset === undefined) return undefined;
  const low = (base.lo >>> 0) + (offset.lo >>> 0);
  return { hi: (base.hi + offset.hi + (low > 0xffff_ffff ? 1 : 0)) | 0, lo: low | 0 };
}
