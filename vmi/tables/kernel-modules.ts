import { createHash } from "node:crypto";
import {
  moduleExtent,
  moduleMemoryAreas,
  moduleName,
  moduleReferences,
  moduleState,
  moduleStruct,
  moduleTaints,
  moduleText,
  moduleTextBytes,
  moduleUsers,
  walkModules,
} from "../linux/module.ts";
import { CELL } from "./columns.ts";
import { isWanted } from "./keys.ts";
import { defineTable, integer, text } from "./table.ts";

/** One row a module: /proc/modules. */
export const kernelModules = defineTable({
  name: "kernel_modules",
  description: "Loaded kernel modules, from the kernel's module list",
  columns: {
    name: text("Module name", { key: true }),
    size: integer("Memory that it takes, bytes"),
    used_by: text("Modules that use it, each followed by a comma; - when none does"),
    status: text("Live, Loading or Unloading"),
    address: text("Where its text begins"),
    references: integer("References by others"),
    taints: text("Taint letters: O out of tree, E unsigned, P proprietary, C staging, F forced"),
    version: text("MODULE_VERSION, when it has one"),
    source_version: text("srcversion, when it has one"),
    module: text("Address of the struct module"),
    text_size: integer("Bytes of its text, from `address` on"),
    sha256: text(
      "SHA-256 of its text as it is in memory: the same for a module's file only on one kernel at one place",
    ),
  },
  cost: "walk",
  atOnce: true,
  reads: ["modules", "module", "module_memory (from 6.4: ac3b43283923; before, module_layout)"],
  examples: [
    "SELECT name, size, taints FROM kernel_modules WHERE taints <> ''",
    "SELECT name, sha256 FROM kernel_modules WHERE name = 'loop'",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const layout = kernel.layout(moduleStruct);
    const wanted = context.textKeys("name");
    const list = walkModules(kernel, budget);
    context.retried(list.retried);
    if (!list.complete) context.incomplete("the module list could not be followed to its end");
    for (let i = 0; i < list.count; i++) {
      const at = { hi: list.hi[i]!, lo: list.lo[i]! };
      const state = moduleState(kernel, at);
      if (state === undefined) continue;
      const name = out.name && moduleName(kernel, at);
      if (!isWanted(wanted, name)) continue;
      out.name?.pushOr(name, CELL.unreadable);
      const extent = (out.size ?? out.address) && moduleExtent(kernel, at);
      out.size?.pushOr(extent?.size, CELL.unreadable);
      out.used_by?.pushOr(moduleUsers(kernel, at, budget), CELL.unsupported);
      out.status?.push(state);
      if (extent === undefined) out.address?.absent(CELL.unreadable);
      else out.address?.pushAddress(extent.base.hi, extent.base.lo);
      out.references?.pushOr(moduleReferences(kernel, at), CELL.unsupported);
      out.taints?.push(moduleTaints(kernel, at) ?? "");
      out.version?.pushOr(moduleText(kernel, at, layout.version), CELL.notApplicable);
      out.source_version?.pushOr(moduleText(kernel, at, layout.srcversion), CELL.notApplicable);
      out.module?.pushAddress(at.hi, at.lo);
      if (out.text_size !== undefined) {
        const area = moduleMemoryAreas(kernel, at).find(({ textSize, init }) => textSize > 0 && !init);
        out.text_size.pushOr(area?.textSize, CELL.unreadable);
      }
      if (out.sha256 !== undefined) {
        const bytes = moduleTextBytes(kernel, at, budget);
        if (bytes === undefined) out.sha256.absent(CELL.unreadable);
        else out.sha256.push(createHash("sha256").update(bytes).digest("hex"));
      }
      if (!context.row()) return;
    }
  },
});
