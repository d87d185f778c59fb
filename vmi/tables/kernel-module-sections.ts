import { moduleSections } from "../linux/module-sections.ts";
import { CELL } from "./columns.ts";
import { eachModule } from "./each-module.ts";
import { defineTable, integer, text } from "./table.ts";

/** One row a section: /sys/module/MODULE/sections. */
export const kernelModuleSections = defineTable({
  name: "kernel_module_sections",
  description: "Sections of loaded modules, as debuggers need them",
  columns: {
    module: text("Module name", { key: true }),
    name: text("Name of the section"),
    address: text("Where it is, or was: sections that serve only while the module starts are freed afterwards"),
    size: integer(
      "Bytes to the next section or the end of the module's memory there, which is what the kernel keeps of its size; not applicable where the memory was freed",
    ),
  },
  cost: "walk",
  atOnce: true,
  reads: [
    "modules",
    "module.sect_attrs",
    "module_sect_attrs (nsections until 6.13: d8959b947a8d)",
    "module_sect_attr (until 6.13: 4b2c11e4aaf7; battr from 5.8: ed66f991bb19, before mattr)",
    "bin_attribute",
  ],
  examples: ["SELECT name, address FROM kernel_module_sections WHERE module = 'loop' AND name LIKE '.text%'"],
  generate: (context, out) => {
    eachModule(context, (at, module) =>
      moduleSections(context.kernel, at, context.budget).every(({ name, address, span }) => {
        out.module?.pushBytes(module);
        out.name?.pushBytes(name);
        out.address?.pushAddress(address.hi, address.lo);
        out.size?.pushOr(span, CELL.notApplicable);
        return context.row();
      }),
    );
  },
});
