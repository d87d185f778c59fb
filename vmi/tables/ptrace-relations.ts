import { follow } from "../linux/follow.ts";
import { ptraceFlags, tracedTask } from "../linux/ptrace.ts";
import { plus, readCString, readU32 } from "../linux/read.ts";
import { TASK_COMM_LEN, taskStruct } from "../linux/task-struct.ts";
import { walkThreads } from "../linux/tasks.ts";
import { CELL } from "./columns.ts";
import { eachProcess } from "./each-process.ts";
import { defineTable, integer, text } from "./table.ts";

/** One row a thread that another traces: TracerPid of /proc/PID/task/TID/status. */
export const ptraceRelations = defineTable({
  name: "ptrace_relations",
  description: "Threads that are traced (ptrace), and by whom: debuggers, and what injects code",
  columns: {
    pid: integer("Process of the traced thread", { key: true }),
    tid: integer("The traced thread"),
    name: text("Its name"),
    tracer_pid: integer("Process that traces it"),
    tracer_tid: integer("The thread that traces it: TracerPid"),
    tracer_name: text("That thread's name"),
    flags: integer("task_struct.ptrace"),
    flag_names: text("SEIZED where PTRACE_SEIZE was used; options such as TRACEFORK and EXITKILL"),
    task: text("Address of the traced task_struct"),
  },
  cost: "walk",
  reads: ["init_task", "task_struct", "signal_struct"],
  examples: [
    "SELECT tracer_pid, tracer_name, pid, name FROM ptrace_relations",
    "SELECT t.pid, p.path FROM ptrace_relations t JOIN processes p ON p.vm = t.vm AND p.pid = t.tracer_pid",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const { space } = kernel;
    const layout = kernel.layout(taskStruct);
    const { ptrace, parent } = kernel.layout(tracedTask);
    eachProcess(context, (leader, pid) => {
      const threads = walkThreads(kernel, leader, budget);
      context.retried(threads?.retried ?? 0);
      if (!threads?.complete) context.incomplete(`the threads of process ${pid} could not be followed to their end`);
      for (let i = 0; threads !== undefined && i < threads.count; i++) {
        const at = { hi: threads.hi[i]!, lo: threads.lo[i]! };
        const flags = readU32(space, at, ptrace);
        if (flags === undefined || flags === 0) continue;
        const found = follow(kernel, at, parent, budget, (tracer) => ({
          pid: readU32(space, tracer, layout.tgid),
          tid: readU32(space, tracer, layout.pid),
          name: readCString(space, plus(tracer, layout.comm), TASK_COMM_LEN),
        }));
        const tracer = typeof found === "string" ? undefined : found.value;
        const state = found === "torn" ? CELL.torn : CELL.unreadable;
        out.pid?.push(pid);
        out.tid?.pushOr(readU32(space, at, layout.pid), CELL.unreadable);
        out.name?.pushOr(readCString(space, plus(at, layout.comm), TASK_COMM_LEN), CELL.unreadable);
        out.tracer_pid?.pushOr(tracer?.pid, state);
        out.tracer_tid?.pushOr(tracer?.tid, state);
        out.tracer_name?.pushOr(tracer?.name, state);
        out.flags?.push(flags);
        out.flag_names?.push(ptraceFlags(flags));
        out.task?.pushAddress(at.hi, at.lo);
        if (!context.row()) return false;
      }
      return true;
    });
  },
});
