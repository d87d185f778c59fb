import { unsignedOf } from "../bytes/integer.ts";
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
    soft: integer("The limit that holds; absent when there is none, or one of 2^63 and more"),
    hard: integer("How far the process may raise it; absent as `soft` is"),
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
    const words = new Int32Array((RESOURCES.length * RLIMIT) / 4);
    eachProcess(context, (at, pid) => {
      const found = follow(kernel, at, signal, budget, (signalAt) => {
        budget.spend(RESOURCES.length);
        const first = plus(signalAt, rlim);
        const index = kernel.space.borrow(first.hi, first.lo, RESOURCES.length * RLIMIT);
        if (index < 0) return undefined;
        for (let word = 0; word < words.length; word++) words[word] = view.getInt32(index + word * 4, true);
        return words;
      });
      if (typeof found === "string" || found.value === undefined) {
        context.incomplete(`the limits of process ${pid} can't be read`);
        return true;
      }
      for (let i = 0; i < RESOURCES.length; i++) {
        const [resource, unit] = RESOURCES[i]!;
        const at = (i * RLIMIT) / 4;
        out.pid?.push(pid);
        out.resource?.push(resource);
        writeLimit(out.soft, words[at + 1]!, words[at]!);
        writeLimit(out.hard, words[at + 3]!, words[at + 2]!);
        out.unit?.push(unit);
        if (!context.row()) return false;
      }
      return true;
    });
  },
});

function writeLimit(column: IntegerColumn | undefined, hi: number, lo: number): void {
  // RLIM_INFINITY is the largest; what a signed value does not hold is more than anything can reach, too.
  if (hi < 0) column?.absent(CELL.notApplicable);
  else column?.pushOr(unsignedOf(hi, lo), CELL.unreadable);
}
