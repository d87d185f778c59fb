import type { Halves } from "../bytes/address.ts";
import { type Timer, walkHrtimers, walkTimers } from "../linux/timers.ts";
import { type Work, type Workqueue, walkWorkqueues, walkWorks } from "../linux/workqueue.ts";
import { CELL, type TextColumn } from "./columns.ts";
import { functionColumns, pushFunction } from "./function-columns.ts";
import { defineTable, integer, type TableContext, text } from "./table.ts";

/** One row a timer, a workqueue, or a work. */
export const timersAndWorkqueues = defineTable({
  name: "timers_and_workqueues",
  description: "What the kernel will do later: timers, workqueues, and the works that wait or are being done",
  columns: {
    kind: text(
      "timer (of the timer wheel), delayed_work, hrtimer, workqueue, work (waits for a worker), inactive_work (held back by " +
        "its workqueue) or running_work",
      { key: true },
    ),
    address: text("Address of the function that will be called, or is running; not applicable for a workqueue"),
    ...functionColumns("the function"),
    name: text("Name of the workqueue, or of the one that a work is queued on; not applicable for timers"),
    cpu: integer(
      "CPU whose timer or work it is, -1 for works of no certain CPU; not applicable for workqueues and what they hold back",
    ),
    expires: integer(
      "When a timer expires, by its clock; not applicable for one that never does, and for what is no timer",
    ),
    earliest: integer("When an hrtimer may expire at the earliest; not applicable for others"),
    clock: text(
      "jiffies, or the clock of an hrtimer in nanoseconds: monotonic, realtime, boottime or tai, with soft behind when it is for soft interrupts",
    ),
    flags: integer(
      "WQ_* flags of a workqueue: 2 unbound, 4 freezable, 8 for reclaim, 16 high priority, 32 CPU intensive, 64 in /sys",
    ),
    object: text("Address of the timer_list, delayed_work, hrtimer, workqueue_struct or work_struct"),
  },
  cost: "walk",
  reads: [
    "timer_bases (three of a CPU from 6.9: 83a665dc99a7, two before)",
    "timer_base, timer_list, delayed_work",
    "hrtimer_bases, hrtimer_cpu_base, hrtimer_clock_base, hrtimer",
    "workqueues, workqueue_struct",
    "worker_pool_idr, worker_pool, worker, work_struct",
    "pool_workqueue (inactive_works from 5.15: f97a4a1a3f87, before delayed_works)",
  ],
  examples: [
    "SELECT kind, address, symbol, module FROM timers_and_workqueues WHERE kind <> 'workqueue' AND module IS NULL",
    "SELECT symbol, count(*) AS timers FROM timers_and_workqueues WHERE kind = 'timer' GROUP BY symbol",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const wanted = context.textKeys("kind");
    const wants = (...kinds: readonly string[]) => wanted === undefined || kinds.some((kind) => wanted.has(kind));
    let more = true;
    const common = (kind: string, at: Halves, name: Uint8Array | undefined, called: Halves | undefined) => {
      out.kind?.push(kind);
      out.object?.pushAddress(at.hi, at.lo);
      out.name?.pushOr(name, CELL.notApplicable);
      if (called !== undefined) {
        out.address?.pushAddress(called.hi, called.lo);
        pushFunction(out, kernel, called, budget);
      } else {
        for (const column of [out.address, out.symbol, out.module] as (TextColumn | undefined)[])
          column?.absent(CELL.notApplicable);
      }
    };
    const timer = ({ kind, at, function: called, cpu, expires, earliest, clock }: Timer) => {
      common(kind, at, undefined, called);
      out.cpu?.push(cpu);
      out.expires?.pushOr(expires, CELL.notApplicable);
      out.earliest?.pushOr(earliest, CELL.notApplicable);
      out.clock?.push(clock);
      out.flags?.absent(CELL.notApplicable);
      more = context.row();
      return more;
    };
    const noTimer = (cpu: number | undefined, flags: number | undefined) => {
      out.cpu?.pushOr(cpu, CELL.notApplicable);
      out.expires?.absent(CELL.notApplicable);
      out.earliest?.absent(CELL.notApplicable);
      out.clock?.absent(CELL.notApplicable);
      out.flags?.pushOr(flags, CELL.notApplicable);
      more = context.row();
      return more;
    };
    const queue = ({ at, name, flags }: Workqueue) => {
      common("workqueue", at, name, undefined);
      return noTimer(undefined, flags);
    };
    const work = ({ kind, at, queue: name, function: called, cpu }: Work) => {
      common(kind, at, name, called);
      return noTimer(cpu, undefined);
    };
    if (wants("timer", "delayed_work")) note(context, "timers", walkTimers(kernel, budget, context.unit, timer));
    if (more && wants("hrtimer"))
      note(context, "high-resolution timers", walkHrtimers(kernel, budget, context.unit, timer));
    if (more && wants("workqueue")) note(context, "workqueues", walkWorkqueues(kernel, budget, context.unit, queue));
    if (more && wants("work", "inactive_work", "running_work"))
      note(context, "works", walkWorks(kernel, budget, context.unit, work));
  },
});

function note(context: TableContext, what: string, walk: { retried: number; complete: boolean } | undefined): void {
  context.retried(walk?.retried ?? 0);
  if (walk === undefined) context.incomplete(`this kernel's ${what} can't be found`);
  else if (!walk.complete) context.incomplete(`the ${what} could not all be followed to their end`);
}
