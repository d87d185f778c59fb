import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import { struct } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { isNull, readCString, readPointer } from "./read.ts";

/** include/linux/cgroup-defs.h */
const cssSet = struct("css_set", { dfl_cgrp: "dfl_cgrp" });
const cgroup = struct("cgroup", { kn: "kn" });
/** include/linux/kernfs.h; `__parent` from 6.15 (633488947ef6). */
const kernfsNode = struct("kernfs_node", { parent: ["__parent", "parent"], name: "name" });

const MAX_DEPTH = 256;
const NAME_MAX = 255;
/** As for a path: see linux/path.ts. */
const STEP_COST = 8;

/** The path of a css_set's cgroup in the unified hierarchy (kernfs_path): `/` for the root. */
export function cgroupPath(kernel: Kernel, set: Halves, budget: Budget): Uint8Array | undefined {
  const { space } = kernel;
  const node = kernel.layout(kernfsNode);
  const group = readPointer(space, set, kernel.layout(cssSet).dfl_cgrp);
  let at = group && readPointer(space, group, kernel.layout(cgroup).kn);
  const parts: Uint8Array[] = [];
  for (let depth = 0; depth < MAX_DEPTH; depth++) {
    budget.spend(STEP_COST);
    const parent: Halves | undefined = at && readPointer(space, at, node.parent);
    if (at === undefined || parent === undefined) return undefined;
    if (isNull(parent))
      return Buffer.concat(parts.length === 0 ? [SLASH] : parts.reverse().flatMap((part) => [SLASH, part]));
    const nameAt = readPointer(space, at, node.name);
    const name = nameAt && readCString(space, nameAt, NAME_MAX);
    if (name === undefined) return undefined;
    parts.push(name);
    at = parent;
  }
  return undefined;
}

const SLASH = Buffer.from("/");
