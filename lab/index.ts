/**
 * Real guests on this machine, for the demo, tests and benchmarks.
 *
 * ```ts
 * await using guest = await bootGuest({ kernel: "6.12", memoryMiB: 1024 });
 * const { processes } = await guest.truth();
 * ```
 */
export {
  type KernelChoice,
  type KernelSeries,
  kernelFlavours,
  kernelReleases,
  kernelSeries,
} from "./artefacts/apt.ts";
export { cacheFolder } from "./artefacts/cache.ts";
export { ensureLab, type LabKernel, type LabKernels } from "./ensure.ts";
export { bootFirmwareOnly, bootGuest, LabGuest, launchGuest } from "./guest.ts";
export type { GuestSpec, ResolvedSpec } from "./spec.ts";
export { tricks } from "./tricks/index.ts";
export type { Evidence, Trick } from "./tricks/trick.ts";
export type { Entry } from "./truth/archive.ts";
export { textOf } from "./truth/bytes.ts";
export type { KernelSymbol, TruthModule, TruthRange } from "./truth/kernel.ts";
export type { Stat, Truth, TruthProcess, TruthThread } from "./truth/truth.ts";
