import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import { struct, symbol } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { walkList } from "./list.ts";
import { cpus, perCpu } from "./per-cpu.ts";
import { walkRbTree } from "./rbtree.ts";
import { isNull, plus, readPointer } from "./read.ts";

/** What the CPUs' schedulers hold: who is not there does not run (kernel/sched/sched.h). */

const runqueues = symbol("?runqueues");
const rq = struct("?rq", { curr: "curr", idle: "idle", cfs: "cfs", rt: "rt", dl: "dl" });
const cfsRq = struct("?cfs_rq", { tasks_timeline: "tasks_timeline.rb_root", curr: "curr" });
const rtRq = struct("?rt_rq", { queue: "active.queue" });
const dlRq = struct("?dl_rq", { root: "root.rb_root" });
/** `my_q` with CONFIG_FAIR_GROUP_SCHED and CONFIG_RT_GROUP_SCHED: the entity stands for a group of tasks. */
const schedEntity = struct("?sched_entity", { run_node: "run_node", my_q: "?my_q" });
const rtEntity = struct("?sched_rt_entity", { run_list: "run_list", my_q: "?my_q" });
const dlEntity = struct("?sched_dl_entity", { rb_node: "rb_node" });
const task = struct("task_struct", { se: "se", rt: "rt", dl: "dl" });
/** From 6.12 (f0e1a0643a59), with CONFIG_SCHED_CLASS_EXT. */
const scxRq = struct("?rq", { runnable_list: "?scx.runnable_list" });
const scxEntity = struct("?task_struct", { runnable_node: "?scx.runnable_node" });

/** MAX_RT_PRIO */
const RT_QUEUES = 100;
const MAX_ENTITIES = 1 << 20;
/** Groups within groups. */
const MAX_DEPTH = 32;
const NULL: Halves = { hi: 0, lo: 0 };

/** The idle task of every CPU, which is in no list at all. */
export function idleTasks(kernel: Kernel): Halves[] {
  const place = kernel.optionalPlace(runqueues);
  const { idle } = kernel.layout(rq);
  if (place === undefined || idle < 0) return [];
  return cpus(kernel)
    .map((cpu) => perCpu(kernel, place, cpu))
    .flatMap((queue) => (queue && readPointer(kernel.space, queue, idle)) ?? []);
}

/** Visits what the run queues hold. They change all the time: what is visited may be anything. */
export function walkRunQueues(kernel: Kernel, budget: Budget, visit: (task: Halves) => void): void {
  const place = kernel.optionalPlace(runqueues);
  const layout = kernel.layout(rq);
  if (place === undefined || layout.curr < 0) return;
  for (const cpu of cpus(kernel)) {
    const queue = perCpu(kernel, place, cpu);
    const current = queue && readPointer(kernel.space, queue, layout.curr);
    if (queue === undefined || current === undefined) continue;
    if (!isNull(current)) visit(current);
    walkFair(kernel, plus(queue, layout.cfs), MAX_DEPTH, budget, visit);
    walkRealTime(kernel, plus(queue, layout.rt), MAX_DEPTH, budget, visit);
    walkDeadlines(kernel, plus(queue, layout.dl), budget, visit);
    walkExtensible(kernel, queue, budget, visit);
  }
}

type Visit = (task: Halves) => void;

function walkFair(kernel: Kernel, queue: Halves, depth: number, budget: Budget, visit: Visit): void {
  const { tasks_timeline, curr } = kernel.layout(cfsRq);
  const { run_node, my_q } = kernel.layout(schedEntity);
  if (tasks_timeline < 0 || depth === 0) return;
  const { se } = kernel.layout(task);
  const tree = walkRbTree(kernel, plus(queue, tasks_timeline), run_node, MAX_ENTITIES, budget);
  const entities = addressesOf(tree);
  // The one that runs is not in the tree.
  const current = readPointer(kernel.space, queue, curr);
  if (current !== undefined && !isNull(current)) entities.push(current);
  for (const entity of entities) {
    const group = my_q < 0 ? NULL : readPointer(kernel.space, entity, my_q);
    if (group === undefined) continue;
    if (isNull(group)) visit(plus(entity, -se));
    else walkFair(kernel, group, depth - 1, budget, visit);
  }
}

function walkRealTime(kernel: Kernel, queue: Halves, depth: number, budget: Budget, visit: Visit): void {
  const { queue: lists } = kernel.layout(rtRq);
  const { run_list, my_q } = kernel.layout(rtEntity);
  if (lists < 0 || depth === 0) return;
  const { rt } = kernel.layout(task);
  for (let priority = 0; priority < RT_QUEUES; priority++) {
    const head = plus(queue, lists + priority * 16);
    for (const entity of addressesOf(walkList(kernel, head, run_list, MAX_ENTITIES, budget))) {
      const group = my_q < 0 ? NULL : readPointer(kernel.space, entity, my_q);
      if (group === undefined) continue;
      if (isNull(group)) visit(plus(entity, -rt));
      else walkRealTime(kernel, group, depth - 1, budget, visit);
    }
  }
}

/** From 6.8 (63ba8422f876) also servers are there, which are no tasks. */
function walkDeadlines(kernel: Kernel, queue: Halves, budget: Budget, visit: Visit): void {
  const { root } = kernel.layout(dlRq);
  if (root < 0) return;
  const { dl } = kernel.layout(task);
  const tree = walkRbTree(kernel, plus(queue, root), kernel.layout(dlEntity).rb_node, MAX_ENTITIES, budget);
  for (const entity of addressesOf(tree)) visit(plus(entity, -dl));
}

function walkExtensible(kernel: Kernel, queue: Halves, budget: Budget, visit: Visit): void {
  const { runnable_list } = kernel.layout(scxRq);
  const { runnable_node } = kernel.layout(scxEntity);
  if (runnable_list < 0 || runnable_node < 0) return;
  addressesOf(walkList(kernel, plus(queue, runnable_list), runnable_node, MAX_ENTITIES, budget)).forEach(visit);
}

function addressesOf({ hi, lo }: { readonly hi: readonly number[]; readonly lo: readonly number[] }): Halves[] {
  return hi.map((high, i) => ({ hi: high, lo: lo[i]! }));
}
