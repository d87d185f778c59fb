import { isSameTask, type LiveTask, liveTask, standsOnOwnStack } from "../linux/live-task.ts";
import { isNull, readPointer } from "../linux/read.ts";
import { idleTasks } from "../linux/run-queues.ts";
import { looksFree, readSlabCache, type SlabObject, scanSlabs } from "../linux/slab.ts";
import { readTaskViews, taskKey, VIEW } from "../linux/task-views.ts";
import { symbol } from "../symbols/specs.ts";
import { defineCheck } from "./check.ts";
import { describeTask, taskViews } from "./hidden-tasks.ts";

/** kernel/fork.c */
const taskCache = symbol("?task_struct_cachep");

export const hiddenProcessSlab = defineCheck({
  name: "hidden-process-slab",
  severity: "critical",
  cost: "scan",
  compares:
    "All memory from which task_structs are allocated, found by the struct page of every page of RAM, with every list of " +
    "tasks. What looks like a task that has been made and has not begun to end, stands on a stack of its own, and is in " +
    "no list at all, was hidden from all of them.",
  misses:
    "A task_struct that was copied to memory of another kind. One whose flags say falsely that it is ending, or whose " +
    "stack has no magic number at its end. Kernels with the allocators SLAB and SLOB (before 6.8).",
  confirm:
    "Look at it with cloudvmi's typed memory: task_struct at the address that is told; its files, mm and parent show what " +
    "it is. In the guest nothing shows it but what it does.",
  reads: [
    "task_struct_cachep, kmem_cache",
    "vmemmap_base, page_offset_base",
    "struct slab (from 5.17) or struct page",
    "what hidden-process reads",
  ],
  look: (context) => {
    const { kernel, budget } = context;
    const place = kernel.optionalPlace(taskCache);
    const at = place && readPointer(kernel.space, place);
    const cache = at && !isNull(at) ? readSlabCache(kernel, at) : undefined;
    const { tasks } = context.shared(taskViews);
    const idle = new Set(idleTasks(kernel).map(taskKey));
    const suspects: { object: SlabObject; task: LiveTask }[] = [];
    const understood =
      cache !== undefined &&
      scanSlabs(kernel, cache, budget, (object) => {
        const key = taskKey(object.at);
        if (tasks.has(key) || idle.has(key)) return;
        const task = liveTask(kernel, object.at);
        if (task !== undefined) suspects.push({ object, task });
      });
    if (!understood) context.incomplete("the kernel's slabs of task_structs are not understood");
    if (cache === undefined || suspects.length === 0) return;
    // A task that was alive before everything is read anew, and is after it, was in every list meanwhile.
    kernel.dropCaches();
    const now = readTaskViews(kernel, budget);
    if ((now.complete & NEEDED) !== NEEDED) {
      context.incomplete("the lists of tasks could not be followed to their end");
      return;
    }
    kernel.dropCaches();
    const stacks = new Set([...now.tasks.values()].flatMap((seen) => stackOf(liveTask(kernel, seen.at)) ?? []));
    for (const { object, task } of suspects) {
      if (now.tasks.has(taskKey(task.at)) || stacks.has(taskKey(task.stack))) continue;
      if (!isSameTask(task, liveTask(kernel, task.at)) || !standsOnOwnStack(kernel, task)) continue;
      if (looksFree(kernel, cache, object)) continue;
      const { name, details } = describeTask(context, task);
      context.report({
        what: `${name} is in memory, and in no list of tasks`,
        where: name,
        evidence: details,
        expected: "a task is in every list that the kernel keeps of tasks",
        identity: `${task.pid} started ${task.start}`,
        pid: task.tgid,
      });
    }
  },
});

/** Any of these has every task: so none is hidden that one of them merely could not be followed to. */
const NEEDED = VIEW.tasks | VIEW.threads;

function stackOf(task: LiveTask | undefined): number | undefined {
  return task && taskKey(task.stack);
}
