import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import { struct, symbol } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { type Addresses, walkList } from "./list.ts";
import { walkModules } from "./module.ts";
import { walkRbTree } from "./rbtree.ts";
import { isNull, plus, readPointer, sameAddress } from "./read.ts";

/** Modules as the kernel's separate lists have them. */

const moduleKset = symbol("?module_kset");
const kset = struct("?kset", { list: "list" });
const kobject = struct("?kobject", { entry: "entry" });
/** Also parts of the kernel's image have one, for their parameters, with no module behind. */
const moduleKobject = struct("?module_kobject", { kobj: "kobj", mod: "mod" });
export const moduleLinks = struct("module", { mkobj: "?mkobj", mkobj_mod: "?mkobj.mod", bug_list: "?bug_list" });
/** From 4.2 (93c2e105f6bc), with CONFIG_MODULES_TREE_LOOKUP: two trees of the same nodes, of which one is whole at any time. */
const modTree = symbol("?mod_tree");
const modTreeRoot = struct("?mod_tree_root", { tree: "?root.tree" });
const modTreeNode = struct("?mod_tree_node", { mod: "mod", node: "?node.node" });
/** lib/bug.c: every module, whether it has BUG()s or not. */
const moduleBugList = symbol("?module_bug_list");

const MAX_MODULES = 65_536;

export const MODULE_VIEWS = ["the module list", "/sys/module", "the tree of addresses", "the list for BUG()"] as const;

export interface ModuleViews {
  /** In the order of MODULE_VIEWS: addresses of struct modules; undefined where the kernel has no such list, or it is in `broken`. */
  readonly views: readonly (readonly Halves[] | undefined)[];
  /** Of MODULE_VIEWS those that the kernel has, and that could not be followed to their ends. */
  readonly broken: readonly string[];
}

/** The kernel has no such list, or has one that can't be followed to its end. */
type View = readonly Halves[] | "none" | "broken";

/** Read in an order in which whoever is in a later list has been in the first before. */
export function readModuleViews(kernel: Kernel, budget: Budget): ModuleViews {
  const all: View[] = [
    allOf(walkModules(kernel, budget)),
    inSysfs(kernel, budget),
    inTree(kernel, budget),
    forBugs(kernel, budget),
  ];
  return {
    views: all.map((view) => (typeof view === "string" ? undefined : view)),
    broken: MODULE_VIEWS.filter((_, i) => all[i] === "broken"),
  };
}

function allOf({ hi, lo, complete }: Addresses): View {
  return complete ? hi.map((half, i) => ({ hi: half, lo: lo[i]! })) : "broken";
}

function inSysfs(kernel: Kernel, budget: Budget): View {
  const { space } = kernel;
  const place = kernel.optionalPlace(moduleKset);
  if (place === undefined) return "none";
  const { list } = kernel.layout(kset);
  const { entry } = kernel.layout(kobject);
  const { kobj, mod } = kernel.layout(moduleKobject);
  const { mkobj } = kernel.layout(moduleLinks);
  const at = readPointer(space, place);
  if (at === undefined || isNull(at) || list < 0 || entry < 0 || kobj < 0 || mkobj < 0) return "broken";
  const found = walkList(kernel, plus(at, list), kobj + entry, MAX_MODULES, budget);
  if (!found.complete) return "broken";
  const modules: Halves[] = [];
  for (let i = 0; i < found.count; i++) {
    const own = { hi: found.hi[i]!, lo: found.lo[i]! };
    const module = readPointer(space, own, mod);
    if (module !== undefined && sameAddress(plus(module, mkobj), own)) modules.push(module);
  }
  return modules;
}

function inTree(kernel: Kernel, budget: Budget): View {
  const place = kernel.optionalPlace(modTree);
  const { tree } = kernel.layout(modTreeRoot);
  const { mod, node } = kernel.layout(modTreeNode);
  // Without CONFIG_MODULES_TREE_LOOKUP it may hold the bounds of modules only.
  if (place === undefined || tree < 0) return "none";
  if (mod < 0 || node < 0) return "broken";
  const found = walkRbTree(kernel, plus(place, tree), node, MAX_MODULES, budget);
  if (!found.complete) return "broken";
  return found.hi.flatMap((hi, i) => readPointer(kernel.space, { hi, lo: found.lo[i]! }, mod) ?? []);
}

function forBugs(kernel: Kernel, budget: Budget): View {
  const place = kernel.optionalPlace(moduleBugList);
  const { bug_list } = kernel.layout(moduleLinks);
  if (place === undefined) return "none";
  return bug_list < 0 ? "broken" : allOf(walkList(kernel, place, bug_list, MAX_MODULES, budget));
}
