import { formatHalves, type Halves } from "../bytes/address.ts";
import type { Kernel } from "../linux/kernel.ts";
import { moduleExtent, moduleName, moduleState, moduleStruct, moduleTaints, moduleText } from "../linux/module.ts";
import { latin1 } from "../linux/read.ts";

/** What the checks for hidden modules share: a struct module in words. */

export interface ModuleDescription {
  readonly name: string;
  readonly base: Halves | undefined;
  /** "at 0x…, 24576 bytes, Live, taints OE, struct module at 0x…" */
  readonly details: string;
}

export function describeModule(kernel: Kernel, at: Halves): ModuleDescription {
  const name = latin1(moduleName(kernel, at) ?? new Uint8Array());
  const extent = moduleExtent(kernel, at);
  const version = moduleText(kernel, at, kernel.layout(moduleStruct).version);
  const taints = moduleTaints(kernel, at);
  const words = [
    extent === undefined
      ? "at an address that can't be read"
      : `at ${formatHalves(extent.base.hi, extent.base.lo)}, ${extent.size} bytes`,
    moduleState(kernel, at) ?? "Unformed",
    ...(version === undefined ? [] : [`version ${latin1(version)}`]),
    ...(taints === undefined || taints === "" ? [] : [`taints ${taints}`]),
    `struct module at ${formatHalves(at.hi, at.lo)}`,
  ];
  return { name, base: extent?.base, details: words.join(", ") };
}
