import { numberOf } from "../bytes/address.ts";
import { DEFAULT_PRIO, PF_KTHREAD, TASK_COMM_LEN, taskStruct } from "../linux/task-struct.ts";
import { stateLetter, walkProcesses, walkThreads } from "../linux/tasks.ts";
import { clockOf } from "../linux/timekeeping.ts";
import { CELL } from "./columns.ts";
import { defineTable, integer, text } from "./table.ts";

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
  examples: ["SELECT tid, name, state FROM process_threads WHERE pid = 1"],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const task = kernel.layout(taskStruct);
    const { view, bytes } = kernel.memory;
    const leaders = walkProcesses(kernel, budget);
    context.retried(leaders.retried);
    if (!leaders.complete) context.incomplete("the task list could not be followed to its end");
    const wanted = context.keys("pid");
    const boot = out.start_time && clockOf(kernel)?.bootNanoseconds;
    for (let i = 0; i < leaders.count; i++) {
      const leader = { hi: leaders.hi[i]!, lo: leaders.lo[i]! };
      const leaderAt = kernel.space.borrow(leader.hi, leader.lo, task.sizeof);
      if (leaderAt < 0) continue;
      const pid = view.getInt32(leaderAt + task.tgid, true);
      if (wanted !== undefined && !wanted.has(pid)) continue;
      const threads = walkThreads(kernel, leader, budget);
      context.retried(threads?.retried ?? 0);
      if (!threads?.complete) context.incomplete("the threads of a process could not be followed to their end");
      for (let j = 0; j < (threads?.count ?? 0); j++) {
        const hi = threads!.hi[j]!;
        const lo = threads!.lo[j]!;
        const index = kernel.space.borrow(hi, lo, task.sizeof);
        // A thread that left its group meanwhile.
        if (index < 0 || view.getInt32(index + task.tgid, true) !== pid) continue;
        out.pid?.push(pid);
        out.tid?.push(view.getInt32(index + task.pid, true));
        out.name?.pushUntilZero(bytes, index + task.comm, TASK_COMM_LEN);
        out.state?.pushCode(
          stateLetter(view.getInt32(index + task.state, true), view.getInt32(index + task.exit_state, true)),
        );
        out.nice?.push(view.getInt32(index + task.static_prio, true) - DEFAULT_PRIO);
        const started = index + task.start_boottime;
        const since = numberOf(view.getInt32(started + 4, true), view.getInt32(started, true));
        out.start_time?.pushOr(boot && Math.floor((boot + since) / 1e9), CELL.unreadable);
        out.kernel_thread?.push((view.getInt32(index + task.flags, true) & PF_KTHREAD) === 0 ? 0 : 1);
        out.task?.pushAddress(hi, lo);
        if (!context.row()) return;
      }
    }
  },
});
