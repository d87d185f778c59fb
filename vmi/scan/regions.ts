import type { Budget } from "../budget.ts";
import type { Kernel } from "../linux/kernel.ts";
import { kernelRegions } from "./kernel.ts";
import { pageCacheRegions } from "./page-cache.ts";
import { physicalRegions } from "./physical.ts";
import { processRegions } from "./processes.ts";
import type { Region, RegionQuery } from "./region.ts";
import { Windows } from "./windows.ts";

/**
 * What there is to look through, region by region. Between two regions the guest may be asked anything else: what is
 * needed further on is looked up anew.
 *
 * @param note told what could not be read
 */
export function regionsOf(
  kernel: Kernel,
  { target, pids }: RegionQuery,
  budget: Budget,
  note: (text: string) => void,
): Generator<Region> {
  const windows = new Windows(kernel.memory, budget, target === "physical");
  switch (target) {
    case "processes":
      return processRegions(kernel, pids, windows, budget, note);
    case "kernel":
      return kernelRegions(kernel, windows, budget);
    case "page-cache":
      return pageCacheRegions(kernel, windows, budget, note);
    case "physical":
      return physicalRegions(kernel.memory, windows);
  }
}
