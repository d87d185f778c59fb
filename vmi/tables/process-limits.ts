import { type Halves, numberOf } from "../bytes/address.ts";
import { follow } from "../linux/follow.ts";
import { plus } from "../linux/read.ts";
import { signalPending } from "../linux/signals.ts";
import { taskStruct } from "../linux/task-struct.ts";
import { CELL, type IntegerColumn } from "./columns.ts";
import { eachProcess } from "./each-process.ts";
import { defineTable, integer, text } from "./table.ts";

/** By RLIMIT number (include/uapi/asm-generic/resource.h), named and measured as setrlimit(2) has it. */
const RESOURCES = [
  ["cpu", "seconds"],
  ["fsize", "bytes"],
  ["data", "bytes"],
  ["stack", "bytes"],
  ["core", "bytes"],
  ["rss", "bytes"],
  ["nproc", "processes"],
  ["nofile", "files"],
  ["memlock", "bytes"],
  ["as", "bytes"],
  ["locks", "locks"],
  ["sigpending", "signals"],
  ["msgqueue", "bytes"],
  ["nice", ""],
  ["rtprio", ""],
  ["rttime", "us"],
] as const;
/** struct rlimit: rlim_cur and rlim_max, 8 bytes each. */
const RLIMIT = 16;

/** One row a resource of a process: /proc/PID/limits. */
export const processLimits = defineTable({
  name: "process_limits",
  description: "Resource limits of processes (setrlimit(2))",
  columns: {
    pid: integer("Process (thread group) id", { key: true }),
    resource: text(
      "cpu, fsize, data, stack, core, rss, nproc, nofile, memlock, as, locks, … as setrlimit(2) names them",
    ),
    soft: integer("The limit that holds; absent when there is none"),
    hard: integer("How far the process may raise it; absent when there is no limit"),
    unit: text("What it counts"),
  },
  cost: "walk",
  reads: ["init_task", "task_struct", "signal_struct.rlim"],
  examples: ["SELECT pid, soft, hard FROM process_limits WHERE resource = 'nofile' AND soft <> 1024"],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const { view } = kernel.memory;
    const { signal } = kernel.layout(taskStruct);
    const { rlim } = kernel.layout(signalPending);
    eachProcess(context, (at, pid) => {
      const found = follow(kernel, at, signal, budget, (signalAt) => {
        budget.spend(RESOURCES.length);
        const first = plus(signalAt, rlim);
        const index = kernel.space.borrow(first.hi, first.lo, RESOURCES.length * RLIMIT);
        if (index < 0) return undefined;
        const at = (offset: number): Halves => ({
          hi: view.getInt32(offset + 4, true),
          lo: view.getInt32(offset, true),
        });
        return RESOURCES.map((_, i) => ({ soft: at(index + i * RLIMIT), hard: at(index + i * RLIMIT + 8) }));
      });
      const limits = typeof found === "string" ? undefined : found.value;
      if (limits === undefined) {
        context.incomplete(`the limits of process ${pid} can't be read`);
        return true;
      }
      for (const [i, [resource, unit]] of RESOURCES.entries()) {
        out.pid?.push(pid);
        out.resource?.push(resource);
        writeLimit(out.soft, limits[i]!.soft);
        writeLimit(out.hard, limits[i]!.hard);
        out.unit?.push(unit);
        if (!context.row()) return false;
      }
      return true;
    });
  },
});

function writeLimit(column: IntegerColumn | undefined, { hi, lo }: Halves): void {
  // RLIM_INFINITY
  if (hi === -1 && lo === -1) column?.absent(CELL.notApplicable);
  else column?.pushOr(numberOf(hi, lo), CELL.unreadable);
}
