import type { Halves } from "../bytes/address.ts";
import { moduleName, moduleState, walkModules } from "../linux/module.ts";
import { latin1 } from "../linux/read.ts";
import type { TableContext } from "./table.ts";

/**
 * Visits the modules that /proc/modules would show, of which only those that a constraint on `module` names.
 *
 * @param visit returns false when no more rows are wanted
 */
export function eachModule(context: TableContext, visit: (module: Halves, name: Uint8Array) => boolean): boolean {
  const { kernel, budget } = context;
  const wanted = context.textKeys("module");
  const list = walkModules(kernel, budget);
  context.retried(list.retried);
  if (!list.complete) context.incomplete("the module list could not be followed to its end");
  for (let i = 0; i < list.count; i++) {
    const at = { hi: list.hi[i]!, lo: list.lo[i]! };
    const name = moduleState(kernel, at) === undefined ? undefined : moduleName(kernel, at);
    if (name === undefined || (wanted !== undefined && !wanted.has(latin1(name)))) continue;
    if (!visit(at, name)) return false;
  }
  return true;
}
