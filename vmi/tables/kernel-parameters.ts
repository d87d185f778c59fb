import { GuestError } from "../errors.ts";
import { isNull } from "../linux/read.ts";
import { sysctlValue, ticksPerSecond, walkSysctls } from "../linux/sysctl.ts";
import { CELL } from "./columns.ts";
import { isWanted } from "./keys.ts";
import { defineTable, integer, text } from "./table.ts";

/** One row a parameter: /proc/sys. */
export const kernelParameters = defineTable({
  name: "kernel_parameters",
  description:
    "The kernel's parameters (sysctl), from its own tree of them; those of namespaces are the initial namespaces'",
  columns: {
    name: text("Name as sysctl(8) writes it, such as kernel.kptr_restrict; a dot within a part is a slash", {
      key: true,
    }),
    value: text("Its value as /proc/sys shows it; absent where a function of the kernel's makes it up"),
    type: text(
      "int, uint, long, byte, bool, string; seconds, ticks or milliseconds where it is kept in the kernel's ticks",
    ),
    mode: integer("Permission bits: 420 is rw-r--r--"),
    handler: text("The function that shows and sets it"),
    address: text("Where the value is kept"),
  },
  cost: "walk",
  atOnce: true,
  reads: [
    "sysctl_table_root, init_net, init_user_ns, init_ipc_ns (its own tree from 5.19: 1f5c135ee509)",
    "tainted_mask, sysrq_enabled, sysrq_always_enabled, max_threads",
    "ctl_dir, ctl_node, ctl_table_header, ctl_table",
    "clocksource_jiffies",
  ],
  examples: [
    "SELECT value FROM kernel_parameters WHERE name = 'kernel.modules_disabled'",
    "SELECT name, value FROM kernel_parameters WHERE name LIKE 'kernel.%restrict' OR name LIKE '%.ip_forward'",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const wanted = context.textKeys("name");
    const hz = ticksPerSecond(kernel);
    const enter = (path: readonly string[]) => {
      const name = nameOf(path);
      return wanted === undefined || [...wanted].some((text) => text === name || text.startsWith(`${name}.`));
    };
    const walk = walkSysctls(kernel, enter, budget, (parameter) => {
      const name = nameOf(parameter.path);
      if (!isWanted(wanted, name)) return true;
      out.name?.push(name);
      if (out.value !== undefined) {
        const value = sysctlValue(kernel, parameter, hz);
        out.value.pushOr(
          value,
          parameter.kind === undefined || isNull(parameter.data) ? CELL.unsupported : CELL.unreadable,
        );
      }
      if (parameter.kind === undefined) out.type?.absent(CELL.unsupported);
      else out.type?.push(parameter.kind);
      out.mode?.push(parameter.mode);
      if (parameter.handler === undefined) out.handler?.absent(CELL.unreadable);
      else out.handler?.push(parameter.handler);
      if (isNull(parameter.data)) out.address?.absent(CELL.notApplicable);
      else out.address?.pushAddress(parameter.data.hi, parameter.data.lo);
      return context.row();
    });
    if (walk === undefined) {
      throw new GuestError("unsupported-kernel", `kernel ${kernel.release}: its parameters can't be found`);
    }
    context.retried(walk.retried);
    if (!walk.complete) context.incomplete("some parameters could not be followed");
  },
});

/** As sysctl(8) writes it. */
const nameOf = (path: readonly string[]) => path.map((part) => part.replaceAll(".", "/")).join(".");
