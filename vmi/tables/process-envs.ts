import { follow } from "../linux/follow.ts";
import { mmStruct, readUserSpan } from "../linux/mm.ts";
import { taskStruct } from "../linux/task-struct.ts";
import { eachProcess } from "./each-process.ts";
import { defineTable, integer, text } from "./table.ts";

const EQUALS = 0x3d;

/** One row a variable of a process's environment, as it was when the process started: /proc/PID/environ. */
export const processEnvs = defineTable({
  name: "process_envs",
  description: "Environment variables of processes",
  columns: {
    pid: integer("Process (thread group) id", { key: true }),
    key: text("Name of the variable"),
    value: text("Its value; empty when the entry has no ="),
  },
  permission: "read",
  cost: "walk",
  reads: ["init_task", "task_struct", "mm_struct", "the process's own memory"],
  examples: [
    "SELECT key, value FROM process_envs WHERE pid = 1",
    "SELECT p.pid, p.name, e.value FROM processes p JOIN process_envs e USING (vm, pid) WHERE e.key = 'LD_PRELOAD'",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const task = kernel.layout(taskStruct);
    const mm = kernel.layout(mmStruct);
    // Of a variable that is asked for there are few: what is not asked for is not kept, however much a process has of it.
    const wanted = context.textKeys("key");
    eachProcess(context, (at, pid) => {
      const found = follow(kernel, at, task.mm, budget, (mmAt) =>
        readUserSpan(kernel, mmAt, mm.env_start, mm.env_end, budget),
      );
      if (found === "null") return true;
      const bytes = typeof found === "string" ? undefined : found.value;
      if (bytes === undefined) context.incomplete(`the environment of process ${pid} is not in memory`);
      for (let start = 0; bytes !== undefined && start < bytes.length; ) {
        budget.spend();
        const zero = bytes.indexOf(0, start);
        const end = zero < 0 ? bytes.length : zero;
        const entry = bytes.subarray(start, end);
        start = end + 1;
        if (entry.length === 0) continue;
        const equals = entry.indexOf(EQUALS);
        const keyEnd = equals < 0 ? entry.length : equals;
        if (wanted?.has(Buffer.from(entry.subarray(0, keyEnd)).toString()) === false) continue;
        out.pid?.push(pid);
        out.key?.pushBytes(entry, 0, keyEnd);
        out.value?.pushBytes(entry, equals < 0 ? entry.length : equals + 1);
        if (!context.row()) return false;
      }
      return true;
    });
  },
});
