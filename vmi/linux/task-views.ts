import type { Budget } from "../budget.ts";
import { type Halves, numberOf } from "../bytes/address.ts";
import { struct, symbol } from "../symbols/specs.ts";
import { walkHlist } from "./hlist.ts";
import type { Kernel } from "./kernel.ts";
import { type Addresses, walkList } from "./list.ts";
import { isNull, plus, readPointer, readU32, sameAddress } from "./read.ts";
import { idleTasks, walkRunQueues } from "./run-queues.ts";
import { initTask, PID_MAX_LIMIT, signalStruct, taskStruct } from "./task-struct.ts";
import { walkIdr, xarrayEntry } from "./xarray.ts";

/** Tasks as the kernel's separate lists have them: what is missing in one of them was taken out. */

const initPidNs = symbol("init_pid_ns");
/** From 4.15 (95846ecf9dac). */
const pidNamespace = struct("?pid_namespace", { idr: "?idr" });
const idrLayout = struct("?idr", { idr_rt: "idr_rt", idr_base: "?idr_base" });
const pidStruct = struct("pid", { tasks: "tasks", level: "level", numbers: "numbers" });
const upid = struct("upid", { nr: "nr", ns: "ns" });
/** `pid_links` from 4.19 (2c4704756cab). */
const links = struct("task_struct", {
  pid_links: ["?pid_links"],
  children: "children",
  sibling: "sibling",
});
/** kernel/cgroup/cgroup.c: a hash table of all css_sets, each with its tasks; those that are being moved are in `mg_tasks`. */
const cssSetTable = symbol("?css_set_table");
const cssSet = struct("?css_set", { hlist: "hlist", tasks: "tasks", mg_tasks: "mg_tasks" });
const cgroupLink = struct("?task_struct", { cg_list: "?cg_list" });

/** 1 << CSS_SET_HASH_BITS */
const CSS_SET_BUCKETS = 128;
const MAX_CSS_SETS = 1 << 20;
/** MAX_PID_NS_LEVEL */
const MAX_LEVEL = 32;
/** A list that is not closed is followed only one way; see forward(). */
const TRIES = 3;

/** As bits, so that one number says where a task was seen. */
export const VIEW = { tasks: 1, threads: 2, children: 4, numbers: 8, cgroup: 16, running: 32 } as const;

export type ViewName = keyof typeof VIEW;

export interface SeenTask {
  readonly at: Halves;
  /** Bits of VIEW. */
  seen: number;
}

export interface TaskViews {
  /** By a number made of the address. */
  readonly tasks: ReadonlyMap<number, SeenTask>;
  /** Bits of the views that were followed to their ends: only there a task can be missing. */
  readonly complete: number;
  /** Bits of the views that the kernel has, and that could not be followed to their ends. */
  readonly broken: number;
  /** Processes on the task list, which was walked first. */
  readonly processes: number;
}

/** Tells tasks apart: exact below 2^53 only, but kernel addresses that differ there differ lower too. */
export function taskKey({ hi, lo }: Halves): number {
  return numberOf(hi & 0x1f_ffff, lo);
}

/** What all views have now. The idle tasks of the CPUs, which are in none of them, are left out. */
export function readTaskViews(kernel: Kernel, budget: Budget): TaskViews {
  return new Views(kernel, budget).read();
}

class Views {
  readonly #kernel: Kernel;
  readonly #budget: Budget;
  readonly #tasks = new Map<number, SeenTask>();
  /** What is still to be asked for its children and threads: grows while it is gone through. */
  readonly #found: Halves[] = [];
  readonly #left: ReadonlySet<number>;
  readonly #groups = new Set<number>();
  #complete = 0;
  #broken = 0;

  constructor(kernel: Kernel, budget: Budget) {
    this.#kernel = kernel;
    this.#budget = budget;
    this.#left = new Set([kernel.place(initTask), ...idleTasks(kernel)].map(taskKey));
  }

  read(): TaskViews {
    const list = taskList(this.#kernel, this.#budget);
    this.#addAll(list, "tasks");
    this.#note("tasks", list.complete);
    this.#note("numbers", this.#numbers());
    this.#note("cgroup", this.#controlGroups());
    walkRunQueues(this.#kernel, this.#budget, (task) => this.#add(task, "running"));
    this.#relatives();
    return { tasks: this.#tasks, complete: this.#complete, broken: this.#broken, processes: list.count };
  }

  /** Undefined: the kernel has no such view. */
  #note(view: ViewName, complete: boolean | undefined): void {
    if (complete === true) this.#complete |= VIEW[view];
    if (complete === false) this.#broken |= VIEW[view];
  }

  #add(at: Halves, view: ViewName): void {
    const key = taskKey(at);
    if (this.#left.has(key)) return;
    const known = this.#tasks.get(key);
    if (known !== undefined) {
      known.seen |= VIEW[view];
      return;
    }
    if (this.#tasks.size >= PID_MAX_LIMIT) return;
    this.#tasks.set(key, { at, seen: VIEW[view] });
    this.#found.push(at);
  }

  #addAll({ hi, lo, count }: Addresses, view: ViewName): void {
    for (let i = 0; i < count; i++) this.#add({ hi: hi[i]!, lo: lo[i]! }, view);
  }

  #numbers(): boolean | undefined {
    const kernel = this.#kernel;
    const { idr } = kernel.layout(pidNamespace);
    const { tasks } = kernel.layout(pidStruct);
    const { pid_links } = kernel.layout(links);
    if (idr < 0 || pid_links < 0) return undefined;
    return walkIdr(kernel, plus(kernel.place(initPidNs), idr), PID_MAX_LIMIT, this.#budget, (_, pid) => {
      const first = readPointer(kernel.space, pid, tasks);
      if (first !== undefined && !isNull(first)) this.#add(plus(first, -pid_links), "numbers");
      return true;
    });
  }

  #controlGroups(): boolean | undefined {
    const kernel = this.#kernel;
    const table = kernel.optionalPlace(cssSetTable);
    const layout = kernel.layout(cssSet);
    const { cg_list } = kernel.layout(cgroupLink);
    if (table === undefined) return undefined;
    if (layout.hlist < 0 || cg_list < 0) return false;
    let complete = true;
    let any = false;
    for (let bucket = 0; bucket < CSS_SET_BUCKETS; bucket++) {
      const sets = walkHlist(kernel, plus(table, bucket * 8), layout.hlist, MAX_CSS_SETS, this.#budget);
      complete &&= sets.complete;
      for (let i = 0; i < sets.count; i++) {
        for (const member of [layout.tasks, layout.mg_tasks]) {
          const head = plus({ hi: sets.hi[i]!, lo: sets.lo[i]! }, member);
          const list = walkList(kernel, head, cg_list, PID_MAX_LIMIT, this.#budget);
          this.#addAll(list, "cgroup");
          complete &&= list.complete;
          any ||= list.count > 0;
        }
      }
    }
    // Older kernels put tasks there only once somebody asks for them (cgroup_enable_task_cg_lists).
    return complete && !any ? undefined : complete;
  }

  /** Children and threads of every task that was found, and so on: all that come from the first task. */
  #relatives(): void {
    const kernel = this.#kernel;
    const { space } = kernel;
    const { children, sibling } = kernel.layout(links);
    const { signal, thread_node } = kernel.layout(taskStruct);
    const { thread_head } = kernel.layout(signalStruct);
    const whole = { children: true, threads: true };
    this.#found.push(kernel.place(initTask));
    for (let i = 0; i < this.#found.length; i++) {
      const at = this.#found[i]!;
      this.#budget.spend();
      const first = readPointer(space, at, children);
      if (first !== undefined && !sameAddress(first, plus(at, children))) {
        const list = walkList(kernel, plus(at, children), sibling, PID_MAX_LIMIT, this.#budget);
        this.#addAll(list, "children");
        whole.children &&= list.complete;
      }
      const group = readPointer(space, at, signal);
      if (group === undefined || isNull(group) || this.#groups.has(taskKey(group))) continue;
      this.#groups.add(taskKey(group));
      const threads = walkList(kernel, plus(group, thread_head), thread_node, PID_MAX_LIMIT, this.#budget);
      this.#addAll(threads, "threads");
      whole.threads &&= threads.complete;
    }
    this.#note("children", whole.children);
    this.#note("threads", whole.threads);
  }
}

/**
 * The list that the kernel's own readers follow. They go forwards only: where elements do not point back, as when one was
 * taken out one way only, that way is followed.
 */
function taskList(kernel: Kernel, budget: Budget): Addresses {
  const { tasks } = kernel.layout(taskStruct);
  const head = plus(kernel.place(initTask), tasks);
  const list = walkList(kernel, head, tasks, PID_MAX_LIMIT, budget);
  if (list.complete) return list;
  for (let attempt = 0; attempt < TRIES; attempt++) {
    kernel.dropCaches();
    const found = forward(kernel, head, tasks, budget);
    if (found !== undefined) return found;
  }
  return list;
}

function forward(kernel: Kernel, head: Halves, member: number, budget: Budget): Addresses | undefined {
  const hi: number[] = [];
  const lo: number[] = [];
  let next = readPointer(kernel.space, head);
  while (next !== undefined && hi.length < PID_MAX_LIMIT) {
    if (sameAddress(next, head)) return { hi, lo, count: hi.length, retried: TRIES, complete: true };
    budget.spend();
    const at = plus(next, -member);
    hi.push(at.hi);
    lo.push(at.lo);
    next = readPointer(kernel.space, next);
  }
  return undefined;
}

/**
 * True when the numbers of a task lead to it, in its pid namespace and all above; those that can't be read are taken to do so.
 */
export function hasNumbers(kernel: Kernel, at: Halves): boolean {
  const { space } = kernel;
  const layout = kernel.layout(pidStruct);
  const entry = kernel.layout(upid);
  const { idr } = kernel.layout(pidNamespace);
  const { idr_rt, idr_base } = kernel.layout(idrLayout);
  const { pid_links } = kernel.layout(links);
  const { thread_pid } = kernel.layout(taskStruct);
  if (thread_pid < 0 || idr < 0 || idr_rt < 0 || pid_links < 0) return true;
  const pid = readPointer(space, at, thread_pid);
  if (pid === undefined) return true;
  if (isNull(pid)) return false;
  const first = readPointer(space, pid, layout.tasks);
  if (first !== undefined && !sameAddress(first, plus(at, pid_links))) return false;
  const level = readU32(space, pid, layout.level) ?? 0;
  for (let i = 0; i <= Math.min(level, MAX_LEVEL); i++) {
    const number = plus(pid, layout.numbers + i * entry.sizeof);
    const nr = readU32(space, number, entry.nr);
    const namespace = readPointer(space, number, entry.ns);
    if (nr === undefined || namespace === undefined || isNull(namespace)) return true;
    const tree = plus(namespace, idr);
    const base = idr_base < 0 ? 0 : (readU32(space, tree, idr_base) ?? 0);
    const found = xarrayEntry(kernel, plus(tree, idr_rt), nr - base);
    if (found === undefined || !sameAddress(found, pid)) return false;
  }
  return true;
}
