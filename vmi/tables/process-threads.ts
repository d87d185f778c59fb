import { readU32 } from "../linux/read.ts";
import { PID_MAX_LIMIT, taskStruct } from "../linux/task-struct.ts";
import { walkProcesses, walkThreads } from "../linux/tasks.ts";
import { defineTable, integer, text } from "./table.ts";
import { commonWriters, int32Writer, writeTasks } from "./task-rows.ts";

/** One row a thread: /proc/PID/task. */
export const processThreads = defineTable({
  name: "process_threads",
  description: "All threads of all processes",
  columns: {
    pid: integer("Process (thread group) id", { key: true }),
    tid: integer("Thread id; that of the first thread is the process id"),
    name: text("The thread's own name (comm)"),
    state: text("As in `processes`"),
    nice: integer("Nice value, -20 to 19"),
    start_time: integer("When it started, seconds since 1970"),
    kernel_thread: integer("1 for a thread of the kernel's own"),
    task: text("Address of the task_struct"),
  },
  cost: "walk",
  reads: ["init_task", "task_struct", "signal_struct.thread_head (from 3.14: 0c740d0afc3b)"],
  examples: ["SELECT tid, name, state FROM process_threads WHERE pid = 1"],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const task = kernel.layout(taskStruct);
    const since = performance.now();
    const leaders = walkProcesses(kernel, budget);
    context.retried(leaders.retried);
    if (!leaders.complete) context.incomplete("the task list could not be followed to its end");
    const wanted = context.keys("pid");
    const all = { hi: [] as number[], lo: [] as number[], since };
    for (let i = 0; i < leaders.count; i++) {
      const leader = { hi: leaders.hi[i]!, lo: leaders.lo[i]! };
      if (wanted !== undefined && !wanted.has(readU32(kernel.space, leader, task.tgid) ?? -1)) continue;
      const threads = walkThreads(kernel, leader, budget);
      context.retried(threads?.retried ?? 0);
      if (!threads?.complete) context.incomplete("the threads of a process could not be followed to their end");
      if (threads === undefined) continue;
      for (let t = 0; t < threads.count && all.hi.length < PID_MAX_LIMIT; t++) {
        all.hi.push(threads.hi[t]!);
        all.lo.push(threads.lo[t]!);
      }
      if (all.hi.length === PID_MAX_LIMIT) {
        context.incomplete("there are more threads than a kernel can have");
        break;
      }
    }
    writeTasks(context, all, wanted, [
      ...int32Writer(kernel, out.pid, task.tgid),
      ...int32Writer(kernel, out.tid, task.pid),
      ...commonWriters(kernel, out),
    ]);
  },
});
