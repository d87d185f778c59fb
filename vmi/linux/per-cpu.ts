import type { Halves } from "../bytes/address.ts";
import { struct, symbol } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { isNull, readPointer, readU32, sum } from "./read.ts";

/** mm/percpu.c; a kernel without SMP has none, and its one CPU's variables are where their symbols are. */
const perCpuOffset = symbol("?__per_cpu_offset");
const possibleMask = symbol("?__cpu_possible_mask");
/** Constant, and no variable, with CONFIG_FORCE_NR_CPUS (from 6.2: 6f9c07be9d02). */
const nrCpuIds = symbol("?nr_cpu_ids");
const cpumask = struct("?cpumask", { bits: "bits" });

/** CONFIG_NR_CPUS can't be more on x86-64. */
const MAX_CPUS = 8192;

/** Numbers of the CPUs that can ever be there (cpu_possible_mask): each has per-CPU variables of its own. */
export function cpus(kernel: Kernel): number[] {
  const mask = kernel.optionalPlace(possibleMask);
  if (mask === undefined || kernel.optionalPlace(perCpuOffset) === undefined) return [0];
  const ids = kernel.optionalPlace(nrCpuIds);
  const limit = (ids && readU32(kernel.space, ids)) ?? MAX_CPUS;
  const bits = Math.min(limit, kernel.layout(cpumask).sizeof * 8 || MAX_CPUS, MAX_CPUS);
  const found: number[] = [];
  for (let word = 0; word * 32 < bits; word++) {
    const set = readU32(kernel.space, mask, word * 4) ?? 0;
    for (let bit = 0; set !== 0 && bit < 32 && word * 32 + bit < bits; bit++) {
      if ((set >>> bit) & 1) found.push(word * 32 + bit);
    }
  }
  return found;
}

/**
 * Where a CPU has its own of a per-CPU variable or allocation (per_cpu_ptr). Undefined when that can't be read.
 *
 * @param base the variable's symbol, or what alloc_percpu() gave
 */
export function perCpu(kernel: Kernel, base: Halves, cpu: number): Halves | undefined {
  const offsets = kernel.optionalPlace(perCpuOffset);
  if (offsets === undefined) return cpu === 0 ? base : undefined;
  if (!(cpu >= 0 && cpu < MAX_CPUS)) return undefined;
  const offset = readPointer(kernel.space, offsets, cpu * 8);
  return offset === undefined || isNull(offset) ? undefined : sum(base, offset);
}
