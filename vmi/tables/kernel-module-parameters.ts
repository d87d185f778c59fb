import { type Parameter, walkBuiltInParameters, walkModuleParameters } from "../linux/module-parameters.ts";
import { latin1 } from "../linux/read.ts";
import { CELL } from "./columns.ts";
import { eachModule } from "./each-module.ts";
import { defineTable, integer, text } from "./table.ts";

/** One row a parameter: /sys/module/MODULE/parameters, and those that have no file there. */
export const kernelModuleParameters = defineTable({
  name: "kernel_module_parameters",
  description: "Parameters of modules, of what is built in, and of the kernel itself, with their values now",
  columns: {
    module: text("Module, or the name that what is built in would have as one; kernel for the kernel itself", {
      key: true,
    }),
    name: text("Name of the parameter"),
    type: text(
      "Kind of value: int, bool, charp, array of int and so on; not applicable for a kind of the module's own",
    ),
    value: text("As its file shows it, without the line end; not applicable for a kind of the module's own"),
    permissions: text("Permission bits of its file, octal; 0000 when it has none"),
    built_in: integer("1 when it is part of the kernel's image, else 0"),
  },
  cost: "walk",
  atOnce: true,
  reads: [
    "modules",
    "module.kp",
    "kernel_param (from __start___param to __stop___param for what is built in)",
    "kparam_array",
    "kparam_string",
    "param_ops_*",
  ],
  examples: ["SELECT name, value FROM kernel_module_parameters WHERE module = 'loop'"],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const wanted = context.textKeys("module");
    const row = (parameter: Parameter, builtIn: boolean): boolean => {
      const { module, name, kind, value, mode } = parameter;
      out.module?.pushBytes(module);
      out.name?.pushBytes(name);
      if (kind === undefined) out.type?.absent(CELL.notApplicable);
      else out.type?.push(kind);
      if (typeof value === "string") out.value?.push(value);
      else out.value?.pushOr(value, kind === undefined ? CELL.notApplicable : CELL.unreadable);
      out.permissions?.push(mode.toString(8).padStart(4, "0"));
      out.built_in?.push(builtIn ? 1 : 0);
      return context.row();
    };
    const more = walkBuiltInParameters(kernel, budget, (parameter) =>
      wanted === undefined || wanted.has(latin1(parameter.module)) ? row(parameter, true) : true,
    );
    if (!more) return;
    eachModule(context, (at, name) =>
      walkModuleParameters(kernel, at, name, budget, (parameter) => row(parameter, false)),
    );
  },
});
