import { kernelThread } from "../linux/kthread.ts";
import { isNull, plus, readCString, readU32 } from "../linux/read.ts";
import { PF_KTHREAD, TASK_COMM_LEN, taskStruct } from "../linux/task-struct.ts";
import { stateLetter } from "../linux/tasks.ts";
import { pushCode } from "./code-cells.ts";
import { CELL } from "./columns.ts";
import { eachProcess } from "./each-process.ts";
import { defineTable, integer, text } from "./table.ts";

/** One row a thread of the kernel's own, with the function that it was made to run. */
export const kernelThreads = defineTable({
  name: "kernel_threads",
  description: "Threads of the kernel's own, and the functions that they run",
  columns: {
    pid: integer("Process id", { key: true }),
    name: text("Name, whole where the kernel keeps a longer one than comm has room for"),
    state: text("As in processes"),
    function: text("Address of the function that it was made to run"),
    symbol: text("Symbol of that function"),
    module: text("Module that the function is in; absent for the kernel's image"),
    data: text("Address of what the function was given; absent for none"),
    cpu: integer("CPU that it is bound to as that CPU's own thread"),
    task: text("Address of the task_struct"),
  },
  cost: "walk",
  reads: ["init_task", "task_struct.worker_private (from 5.17: e32cf5dfbe22; before, set_child_tid)", "kthread"],
  examples: [
    "SELECT pid, name, symbol FROM kernel_threads WHERE module IS NOT NULL",
    "SELECT symbol, count(*) AS threads FROM kernel_threads GROUP BY symbol ORDER BY threads DESC",
  ],
  generate: (context, out) => {
    const { kernel } = context;
    const { space } = kernel;
    const layout = kernel.layout(taskStruct);
    eachProcess(context, (task, pid) => {
      const flags = readU32(space, task, layout.flags);
      if (flags === undefined || (flags & PF_KTHREAD) === 0) return true;
      const thread = kernelThread(kernel, task);
      const state = readU32(space, task, layout.state);
      const exit = readU32(space, task, layout.exit_state);
      out.pid?.push(pid);
      out.name?.pushOr(thread?.fullName ?? readCString(space, plus(task, layout.comm), TASK_COMM_LEN), CELL.unreadable);
      if (state === undefined || exit === undefined) out.state?.absent(CELL.unreadable);
      else out.state?.pushCode(stateLetter(state, exit));
      pushCode(context, thread?.function, { address: out.function, symbol: out.symbol, module: out.module });
      if (thread?.data === undefined || isNull(thread.data)) out.data?.absent(CELL.notApplicable);
      else out.data?.pushAddress(thread.data.hi, thread.data.lo);
      out.cpu?.pushOr(thread?.cpu, CELL.notApplicable);
      out.task?.pushAddress(task.hi, task.lo);
      return context.row();
    });
  },
});
