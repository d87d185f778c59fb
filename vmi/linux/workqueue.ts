import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import { struct, symbol } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { isListed, walkList } from "./list.ts";
import { isNull, plus, readCString, readPointer, readU32 } from "./read.ts";
import type { Unit } from "./unit.ts";
import { walkIdr } from "./xarray.ts";

/** Workqueues, and the works that wait or are being done (kernel/workqueue.c). */

const workqueues = symbol("?workqueues");
const workerPoolIdr = symbol("?worker_pool_idr");
const workqueueStruct = struct("?workqueue_struct", { list: "list", pwqs: "pwqs", name: "name", flags: "flags" });
const poolWorkqueue = struct("?pool_workqueue", {
  wq: "wq",
  pwqs_node: "pwqs_node",
  /** From 5.15 (f97a4a1a3f87), and before. */
  inactive_works: ["?inactive_works", "delayed_works"],
});
const workerPool = struct("?worker_pool", { cpu: "cpu", worklist: "worklist", workers: "workers" });
const worker = struct("?worker", {
  node: "node",
  current_work: "current_work",
  current_func: "current_func",
  current_pwq: "current_pwq",
});
export const workStruct = struct("?work_struct", { data: "data", entry: "entry", func: "func" });
export const delayedWork = struct("?delayed_work", { work: "work", timer: "timer" });

/** WORK_STRUCT_PWQ_BIT: data is the pool_workqueue that the work is queued on, and flags below (WORK_STRUCT_FLAG_BITS). */
const WORK_STRUCT_PWQ = 4;
const WORK_STRUCT_WQ_DATA_MASK = ~0xff;
/** WQ_NAME_LEN from 6.9 (31c89007285d); 24 before. */
const WQ_NAME_LEN = 32;
const MAX_QUEUES = 65_536;
const MAX_WORKS = 1 << 20;

export interface Workqueue {
  readonly at: Halves;
  readonly name: Uint8Array | undefined;
  /** WQ_* (include/linux/workqueue.h). */
  readonly flags: number | undefined;
}

export interface Work {
  /** Pending: next to be done; inactive: held back, as its workqueue has as many under way as it may. */
  readonly kind: "work" | "inactive_work" | "running_work";
  /** The CPU whose pool it waits in; -1 for a pool of no CPU; undefined for an inactive one. */
  readonly cpu: number | undefined;
  readonly queue: Uint8Array | undefined;
  readonly function: Halves;
  readonly at: Halves;
}

export interface QueueWalk {
  readonly retried: number;
  readonly complete: boolean;
}

/** Undefined where the kernel's list can't be found. */
export function walkWorkqueues(
  kernel: Kernel,
  budget: Budget,
  unit: Unit,
  visit: (queue: Workqueue) => boolean,
): QueueWalk | undefined {
  const head = kernel.optionalPlace(workqueues);
  const layout = kernel.layout(workqueueStruct);
  if (head === undefined || layout.list < 0) return undefined;
  const list = walkList(kernel, head, layout.list, MAX_QUEUES, budget);
  for (let i = 0; i < list.count; i++) {
    const at = { hi: list.hi[i]!, lo: list.lo[i]! };
    const more = unit(
      () => "a workqueue",
      () =>
        !isListed(kernel, plus(at, layout.list)) ||
        visit({ at, name: queueName(kernel, at), flags: readU32(kernel.space, at, layout.flags) }),
    );
    if (!more) break;
  }
  return { retried: list.retried, complete: list.complete };
}

function queueName(kernel: Kernel, queue: Halves): Uint8Array | undefined {
  return readCString(kernel.space, plus(queue, kernel.layout(workqueueStruct).name), WQ_NAME_LEN);
}

/** Visits the works of all pools, then those that their workqueues hold back. Undefined where the pools can't be found. */
export function walkWorks(
  kernel: Kernel,
  budget: Budget,
  unit: Unit,
  visit: (work: Work) => boolean,
): QueueWalk | undefined {
  const idr = kernel.optionalPlace(workerPoolIdr);
  const layout = kernel.layout(workerPool);
  if (idr === undefined || layout.worklist < 0 || kernel.layout(workStruct).func < 0) return undefined;
  const walker = new Works(kernel, budget, unit, visit);
  const complete = walkIdr(kernel, idr, MAX_QUEUES, budget, (_, pool) => walker.pool(pool));
  // What is held back are units of their own.
  const plain: Unit = (_, read) => read(false);
  if (!walker.stopped) walkWorkqueues(kernel, budget, plain, ({ at, name }) => walker.inactive(at, name));
  return { retried: walker.retried, complete: complete && walker.complete };
}

class Works {
  retried = 0;
  complete = true;
  stopped = false;
  readonly #kernel: Kernel;
  readonly #budget: Budget;
  readonly #unit: Unit;
  readonly #visit: (work: Work) => boolean;

  constructor(kernel: Kernel, budget: Budget, unit: Unit, visit: (work: Work) => boolean) {
    this.#kernel = kernel;
    this.#budget = budget;
    this.#unit = unit;
    this.#visit = visit;
  }

  pool(pool: Halves): boolean {
    const { space } = this.#kernel;
    const layout = this.#kernel.layout(workerPool);
    const own = this.#kernel.layout(worker);
    const cpu = readU32(space, pool, layout.cpu);
    const signed = cpu === undefined ? undefined : cpu | 0;
    if (layout.workers >= 0 && own.node >= 0) {
      for (const at of this.#list(plus(pool, layout.workers), own.node)) {
        const work = (): Work | undefined => {
          const current = readPointer(space, at, own.current_work);
          const called = readPointer(space, at, own.current_func);
          if (current === undefined || called === undefined || isNull(current) || isNull(called)) return undefined;
          const pwq = readPointer(space, at, own.current_pwq);
          const queue = pwq && !isNull(pwq) ? this.#queueOf(pwq) : undefined;
          return { kind: "running_work", cpu: signed, queue, function: called, at: current };
        };
        if (!this.#emit(plus(at, own.node), work)) return false;
      }
    }
    return this.#works(plus(pool, layout.worklist), "work", signed, undefined);
  }

  /** What a workqueue holds back, of each of its parts. */
  inactive(queue: Halves, name: Uint8Array | undefined): boolean {
    const layout = this.#kernel.layout(poolWorkqueue);
    const { pwqs } = this.#kernel.layout(workqueueStruct);
    if (layout.inactive_works < 0 || pwqs < 0) return false;
    return this.#list(plus(queue, pwqs), layout.pwqs_node).every((pwq) =>
      this.#works(plus(pwq, layout.inactive_works), "inactive_work", undefined, name),
    );
  }

  #works(head: Halves, kind: Work["kind"], cpu: number | undefined, name: Uint8Array | undefined): boolean {
    const { space } = this.#kernel;
    const layout = this.#kernel.layout(workStruct);
    for (const at of this.#list(head, layout.entry)) {
      const work = (): Work | undefined => {
        const called = readPointer(space, at, layout.func);
        const data = readPointer(space, at, layout.data);
        if (called === undefined || data === undefined) return undefined;
        const pwq = { hi: data.hi, lo: data.lo & WORK_STRUCT_WQ_DATA_MASK };
        const queue = name ?? ((data.lo & WORK_STRUCT_PWQ) !== 0 ? this.#queueOf(pwq) : undefined);
        return { kind, cpu, queue, function: called, at };
      };
      if (!this.#emit(plus(at, layout.entry), work)) return false;
    }
    return true;
  }

  /** @param node the list_head by which the work, or who does it, is listed */
  #emit(node: Halves, read: () => Work | undefined): boolean {
    this.stopped = !this.#unit(
      () => "a work",
      () => {
        const work = isListed(this.#kernel, node) ? read() : undefined;
        return work === undefined || this.#visit(work);
      },
    );
    return !this.stopped;
  }

  #queueOf(pwq: Halves): Uint8Array | undefined {
    const queue = readPointer(this.#kernel.space, pwq, this.#kernel.layout(poolWorkqueue).wq);
    return queue && !isNull(queue) ? queueName(this.#kernel, queue) : undefined;
  }

  #list(head: Halves, member: number): Halves[] {
    const list = walkList(this.#kernel, head, member, MAX_WORKS, this.#budget);
    this.retried += list.retried;
    this.complete &&= list.complete;
    return list.hi.map((hi, i) => ({ hi, lo: list.lo[i]! }));
  }
}
