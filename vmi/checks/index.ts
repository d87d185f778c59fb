import { deletedExecutable } from "./deleted-executable.ts";
import { hiddenModule } from "./hidden-module.ts";
import { hiddenModuleMemory } from "./hidden-module-memory.ts";
import { hiddenProcess } from "./hidden-process.ts";
import { hiddenProcessSlab } from "./hidden-process-slab.ts";
import { inventory } from "./inventory.ts";
import type { Check } from "./check.ts";

/** The catalogue. A new check is one file, and one line here. */
export const checks: readonly Check[] = [
  deletedExecutable,
  inventory,
  hiddenModule,
  hiddenModuleMemory,
  hiddenProcess,
  hiddenProcessSlab,
];
