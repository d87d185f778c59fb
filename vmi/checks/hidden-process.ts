import { type LiveTask, liveTask } from "../linux/live-task.ts";
import { defineCheck } from "./check.ts";
import {
  describeTask,
  EVERYWHERE,
  expectedViews,
  findHidden,
  noteBroken,
  taskViews,
  viewsText,
} from "./hidden-tasks.ts";

export const hiddenProcess = defineCheck({
  name: "hidden-process",
  severity: "critical",
  cost: "walk",
  compares:
    "The task list (init_task.tasks), the tree of pid numbers that /proc and kill() go by, the threads of each process, " +
    "the children of each process, the tasks of each control group and the CPUs' run queues with one another. A task that " +
    "has been made and has not begun to end is in all of them but the last, from before these were read until after.",
  misses:
    "A task that was taken out of all of them, and waits: hidden-process-slab finds that. One whose flags say falsely that " +
    "it is ending. Before 4.19 the pid numbers are not looked at. What is missing in a list that can't be followed to its " +
    "end: a note names the list. A program that hides only from readers, by hooks, is in all lists: the checks of hooks find it.",
  confirm:
    "In the guest, kill -0 PID and ls /proc/PID go by numbers, ps by what /proc lists, and cgroup.procs by control groups: " +
    "they disagree. From outside, SELECT * FROM processes goes by the task list.",
  reads: [
    "init_task.tasks, children, thread_head",
    "init_pid_ns.idr (from 4.15), pid.tasks",
    "css_set_table, css_set.tasks and mg_tasks",
    "runqueues: rq.curr, cfs_rq.tasks_timeline, rt_rq.active, dl_rq.root, scx.runnable_list (from 6.12)",
  ],
  look: (context) => {
    const { kernel } = context;
    const views = context.shared(taskViews);
    noteBroken(context, views);
    const { tasks, complete } = views;
    const suspects: LiveTask[] = [];
    for (const { at, seen } of tasks.values()) {
      if ((EVERYWHERE & complete & ~seen) === 0) continue;
      const task = liveTask(kernel, at);
      if (task !== undefined && (expectedViews(task) & complete & ~seen) !== 0) suspects.push(task);
    }
    if (suspects.length === 0) return;
    for (const { task, missing, seen } of findHidden(context, suspects)) {
      const { name, details } = describeTask(context, task);
      context.report({
        what: `${name} is missing in ${viewsText(missing)}`,
        where: name,
        evidence: `${details}; seen in ${viewsText(seen) || "none of the lists any more"}`,
        expected: "a task is in every list that the kernel keeps of tasks",
        identity: `${task.pid} started ${task.start}`,
        pid: task.tgid,
      });
    }
  },
});
