import { formatHalves, type Halves } from "../bytes/address.ts";
import type { Kernel } from "../linux/kernel.ts";
import { moduleState } from "../linux/module.ts";
import { MODULE_VIEWS, type ModuleViews, readModuleViews } from "../linux/module-views.ts";
import { type CheckContext, defineCheck } from "./check.ts";
import { describeModule } from "./hidden-modules.ts";

export const hiddenModule = defineCheck({
  name: "hidden-module",
  severity: "critical",
  cost: "walk",
  compares:
    "The list of modules, of which /proc/modules, lsmod and /proc/kallsyms are made, what /sys/module is made of, the tree " +
    "that tells whose an address is, and the list that BUG() looks through. A module that has been loaded is in all of them.",
  misses:
    "A module that was taken out of all of them, which hidden-module-memory finds, and one that says of itself that it is " +
    "being set up or taken down. What is missing in a list that can't be followed to its end: a note names the list.",
  confirm:
    "In the guest, ls /sys/module against lsmod; built-in parts are in /sys/module too, but have no initstate there.",
  reads: [
    "modules",
    "module_kset, kobject, module_kobject",
    "mod_tree (from 4.2), with nodes in module_layout, from 6.4 in module_memory",
    "module_bug_list",
  ],
  look: (context) => {
    const { kernel } = context;
    let found = disagreements(kernel, readViews(context));
    if (found.size === 0) return;
    // One that was loaded or unloaded meanwhile was in some only: it is in all, or none, when they are read anew.
    kernel.dropCaches();
    const again = disagreements(kernel, readViews(context));
    found = new Map([...found].filter(([key]) => again.has(key)));
    for (const [key, { at }] of found) {
      const { missing, seen } = again.get(key)!;
      const { name, base, details } = describeModule(kernel, at);
      context.report({
        what: `module ${name} is missing in ${missing.join(", ")}`,
        where: `module ${name}`,
        evidence: `${details}; seen in ${seen.join(", ")}`,
        expected: "a loaded module is in every list that the kernel keeps of modules",
        identity: `module ${name}`,
        ...(base && { address: base }),
      });
    }
  },
});

function readViews({ kernel, budget, incomplete }: CheckContext): ModuleViews["views"] {
  const { views, broken } = readModuleViews(kernel, budget);
  for (const view of broken) incomplete(`${view} could not be followed to its end`);
  return views;
}

interface Disagreement {
  readonly at: Halves;
  readonly missing: readonly string[];
  readonly seen: readonly string[];
}

/** By address: modules that are loaded, and in some views only. */
function disagreements(kernel: Kernel, views: ModuleViews["views"]): ReadonlyMap<string, Disagreement> {
  const keys = views.map((view) => view && new Set(view.map(({ hi, lo }) => formatHalves(hi, lo))));
  const found = new Map<string, Disagreement>();
  for (const at of views.flatMap((view) => view ?? [])) {
    const key = formatHalves(at.hi, at.lo);
    if (found.has(key) || keys.every((view) => view?.has(key) ?? true)) continue;
    if (moduleState(kernel, at) !== "Live") continue;
    found.set(key, {
      at,
      missing: MODULE_VIEWS.filter((_, i) => keys[i]?.has(key) === false),
      seen: MODULE_VIEWS.filter((_, i) => keys[i]?.has(key) === true),
    });
  }
  return found;
}
