import type { Budget } from "../budget.ts";
import { type Halves, hiOf, loOf } from "../bytes/address.ts";
import { type Integer, signedOf, unsignedOf } from "../bytes/integer.ts";
import { struct, symbol } from "../symbols/specs.ts";
import { isHashed, walkHlist } from "./hlist.ts";
import type { Kernel } from "./kernel.ts";
import { cpus, perCpu } from "./per-cpu.ts";
import { isInTree, walkRbTree } from "./rbtree.ts";
import { plus, readNumber, readPointer, readU32, sameAddress } from "./read.ts";
import type { Unit } from "./unit.ts";
import { delayedWork, workStruct } from "./workqueue.ts";

/** Timers of both kinds: the timer wheel (kernel/time/timer.c) and high-resolution timers (kernel/time/hrtimer.c). */

const timerBases = symbol("?timer_bases");
const timerBase = struct("?timer_base", { pending_map: "pending_map", vectors: "vectors" });
const timerList = struct("?timer_list", { entry: "entry", expires: "expires", function: "function", flags: "flags" });
/** What the timer of a delayed work calls: the work's own function is what counts. */
const delayedWorkTimer = symbol("?delayed_work_timer_fn");

const hrtimerBases = symbol("?hrtimer_bases");
const hrtimerCpuBase = struct("?hrtimer_cpu_base", { clock_base: "clock_base" });
const hrtimerClockBase = struct("?hrtimer_clock_base", {
  cpu_base: "cpu_base",
  clockid: "clockid",
  index: "index",
  active: "active.rb_root.rb_root",
});
const hrtimer = struct("?hrtimer", {
  node: "node.node",
  expires: "node.expires",
  softexpires: "_softexpires",
  function: "function",
});

/** Bases of one CPU: from 6.9 (83a665dc99a7) local, global and deferrable; two before, one without CONFIG_NO_HZ_COMMON. */
const MAX_BASES = 3;
/** WHEEL_SIZE is 576 at most (kernel/time/timer.c). */
const MAX_BUCKETS = 1024;
/** HRTIMER_MAX_CLOCK_BASES: four clocks, each for hard and for soft interrupts (from 4.16: 98ecadd4305d). */
const MAX_CLOCK_BASES = 8;
const MAX_TIMERS = 1 << 20;
/** By clockid_t (include/uapi/linux/time.h). */
const CLOCKS: Readonly<Record<number, string>> = { 0: "realtime", 1: "monotonic", 7: "boottime", 11: "tai" };

/** include/linux/ktime.h: as far as the clock goes, for what never expires. */
const KTIME_MAX: Halves = { hi: 0x7fff_ffff, lo: -1 };

export interface Timer {
  readonly kind: "timer" | "delayed_work" | "hrtimer";
  readonly cpu: number;
  readonly function: Halves;
  /** In the units of the clock; undefined for one that never expires. */
  readonly expires: Integer | undefined;
  /** When it may expire at the earliest, of a high-resolution timer. */
  readonly earliest: Integer | undefined;
  readonly clock: string;
  /** The timer_list, delayed_work or hrtimer. */
  readonly at: Halves;
}

export interface TimerWalk {
  readonly retried: number;
  readonly complete: boolean;
}

/** Visits the timers of the wheel, pending in no particular order. Undefined where the kernel's can't be found. */
export function walkTimers(
  kernel: Kernel,
  budget: Budget,
  unit: Unit,
  visit: (timer: Timer) => boolean,
): TimerWalk | undefined {
  const place = kernel.optionalPlace(timerBases);
  const base = kernel.layout(timerBase);
  const timer = kernel.layout(timerList);
  if (place === undefined || base.vectors < 0 || timer.expires < 0) return undefined;
  const { space } = kernel;
  // One bit for each bucket comes before the buckets.
  const buckets = (base.vectors - base.pending_map) * 8;
  if (buckets <= 0 || buckets > MAX_BUCKETS) return undefined;
  const delayed = kernel.optionalPlace(delayedWorkTimer);
  let retried = 0;
  let complete = true;
  for (const cpu of cpus(kernel)) {
    const bases = perCpu(kernel, place, cpu);
    for (let i = 0; bases !== undefined && i < basesOf(kernel, place, base.sizeof); i++) {
      const vectors = plus(bases, i * base.sizeof + base.vectors);
      budget.spend(1 + (buckets >>> 3));
      for (let bucket = 0; bucket < buckets; bucket++) {
        const head = plus(vectors, bucket * 8);
        const first = readNumber(space, head);
        if (first === undefined) complete = false;
        if (first === undefined || first === 0) continue;
        const list = walkHlist(kernel, head, timer.entry, MAX_TIMERS, budget);
        retried += list.retried;
        complete &&= list.complete;
        for (let item = 0; item < list.count; item++) {
          const at = { hi: list.hi[item]!, lo: list.lo[item]! };
          const more = unit(
            () => "a timer",
            () => {
              const found = isHashed(kernel, plus(at, timer.entry)) ? readTimer(kernel, at, cpu, delayed) : undefined;
              return found === undefined || visit(found);
            },
          );
          if (!more) return { retried, complete };
        }
      }
    }
  }
  return { retried, complete };
}

/** As many as fit before the next symbol. */
function basesOf(kernel: Kernel, place: Halves, size: number): number {
  const next = kernel.kallsyms.after((BigInt(place.hi >>> 0) << 32n) | BigInt(place.lo >>> 0));
  const room = next === undefined || hiOf(next) !== place.hi ? 0 : (loOf(next) >>> 0) - (place.lo >>> 0);
  return Math.max(1, Math.min(MAX_BASES, Math.floor(room / size)));
}

function readTimer(kernel: Kernel, at: Halves, cpu: number, delayed: Halves | undefined): Timer | undefined {
  const { space } = kernel;
  const layout = kernel.layout(timerList);
  const called = readPointer(space, at, layout.function);
  const expires = readPointer(space, at, layout.expires);
  if (called === undefined || expires === undefined) return undefined;
  const common = { cpu, expires: unsignedOf(expires.hi, expires.lo), earliest: undefined, clock: "jiffies" };
  const work = kernel.layout(delayedWork);
  if (delayed === undefined || !sameAddress(called, delayed) || work.timer < 0)
    return { ...common, kind: "timer", function: called, at };
  const owner = plus(at, -work.timer);
  const own = readPointer(space, owner, work.work + kernel.layout(workStruct).func);
  return own && { ...common, kind: "delayed_work", function: own, at: owner };
}

/** Visits high-resolution timers, of each CPU and clock by expiry. Undefined where the kernel's can't be found. */
export function walkHrtimers(
  kernel: Kernel,
  budget: Budget,
  unit: Unit,
  visit: (timer: Timer) => boolean,
): TimerWalk | undefined {
  const place = kernel.optionalPlace(hrtimerBases);
  const cpuBase = kernel.layout(hrtimerCpuBase);
  const clockBase = kernel.layout(hrtimerClockBase);
  const layout = kernel.layout(hrtimer);
  if (place === undefined || cpuBase.clock_base < 0 || clockBase.active < 0 || layout.expires < 0) return undefined;
  const { space } = kernel;
  let retried = 0;
  let complete = true;
  for (const cpu of cpus(kernel)) {
    const base = perCpu(kernel, place, cpu);
    for (let i = 0; base !== undefined && i < MAX_CLOCK_BASES; i++) {
      const at = plus(base, cpuBase.clock_base + i * clockBase.sizeof);
      const back = readPointer(space, at, clockBase.cpu_base);
      // A CPU that never was there has bases that were never set up.
      if (back === undefined || !sameAddress(back, base)) continue;
      const clockid = readU32(space, at, clockBase.clockid);
      const clock = CLOCKS[clockid ?? -1] ?? `clock ${clockid}`;
      const root = plus(at, clockBase.active);
      const list = walkRbTree(kernel, root, layout.node, MAX_TIMERS, budget);
      retried += list.retried;
      complete &&= list.complete;
      const named = i < MAX_CLOCK_BASES / 2 ? clock : `${clock} soft`;
      for (let item = 0; item < list.count; item++) {
        const timer = { hi: list.hi[item]!, lo: list.lo[item]! };
        const more = unit(
          () => "a high-resolution timer",
          () => {
            const queued = isInTree(kernel, root, plus(timer, layout.node));
            const found = queued ? readHrtimer(kernel, timer, cpu, named) : undefined;
            return found === undefined || visit(found);
          },
        );
        if (!more) return { retried, complete };
      }
    }
  }
  return { retried, complete };
}

function readHrtimer(kernel: Kernel, at: Halves, cpu: number, clock: string): Timer | undefined {
  const { space } = kernel;
  const layout = kernel.layout(hrtimer);
  const called = readPointer(space, at, layout.function);
  if (called === undefined) return undefined;
  const time = (member: number) => {
    const value = readPointer(space, at, member);
    const isEver = value?.hi === KTIME_MAX.hi && value.lo === KTIME_MAX.lo;
    return value && !isEver ? signedOf(value.hi, value.lo) : undefined;
  };
  return {
    kind: "hrtimer",
    cpu,
    function: called,
    expires: time(layout.expires),
    earliest: time(layout.softexpires),
    clock,
    at,
  };
}
