import { addHi, addLo, type Halves, signedNumberOf } from "../bytes/address.ts";
import { struct, symbol } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";

const tkCore = symbol("?tk_core");
/** From 6.17 an array whose first element is what tk_core was. */
const timekeeperData = symbol("?timekeeper_data");
/** The type of tk_core from 6.13 (8c4799b18422); before it was anonymous. */
const tkData = struct("?tk_data", { timekeeper: "timekeeper" });
const timekeeper = struct("timekeeper", {
  xtime_sec: "xtime_sec",
  offs_real: "offs_real",
  offs_boot: "offs_boot",
  base: "tkr_mono.base",
  xtime_nsec: "tkr_mono.xtime_nsec",
  shift: "tkr_mono.shift",
  clock: "?tkr_mono.clock",
});
/**
 * What tk_core begins with while its type is anonymous, from 5.10 (025e82bcbc34); before, a seqcount_t. A pointer to its
 * lock is in it with PREEMPT_RT.
 */
const seqcount = struct("?seqcount_raw_spinlock", { seqcount: "seqcount" });
/** Struct timekeeper begins with a u64. */
const ALIGNMENT = 8;
/** A reader that meets the writer this often takes what there is. */
const ATTEMPTS = 8;

export interface Clock {
  /** Seconds since 1970, as of the guest's last tick. */
  readonly realSeconds: number;
  /** When the guest booted, nanoseconds since 1970: what getboottime64() gives. */
  readonly bootNanoseconds: number;
  /** Nanoseconds since boot, suspension included, as of the last tick (an idle guest ticks rarely). */
  readonly uptimeNanoseconds: number;
  /** As CLOCK_MONOTONIC: without suspension. */
  readonly monotonicNanoseconds: number;
  /** The struct clocksource that is counted with. */
  readonly source: Halves | undefined;
}

/**
 * The kernel's clock (kernel/time/timekeeping.c). Undefined when it can't be read. A vCPU that the host has stopped in
 * the middle of a tick stays there for long: then the parts are of two ticks, and the clock is off by that much.
 */
export function clockOf(kernel: Kernel): Clock | undefined {
  const place = kernel.optionalPlace(tkCore) ?? kernel.optionalPlace(timekeeperData);
  if (place === undefined) return undefined;
  const data = kernel.layout(tkData);
  const keeper = kernel.layout(timekeeper);
  const start = data.timekeeper >= 0 ? data.timekeeper : behindSeqcount(kernel);
  const { view } = kernel.memory;
  const s64 = (at: number) => signedNumberOf(view.getInt32(at + 4, true), view.getInt32(at, true));
  let clock: Clock | undefined;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    // A copy would stay in the middle of the change that it was taken in.
    if (attempt > 0) kernel.memory.dropCaches();
    const head = kernel.space.resolve(place.hi, place.lo);
    const sequence = head < 0 ? 1 : view.getUint32(head, true);
    const at = kernel.space.borrow(addHi(place.hi, place.lo, start), addLo(place.lo, start), keeper.sizeof);
    if (at < 0 || head < 0) return undefined;
    const offsReal = s64(at + keeper.offs_real);
    const offsBoot = s64(at + keeper.offs_boot);
    const fraction = s64(at + keeper.xtime_nsec) / 2 ** (view.getUint32(at + keeper.shift, true) & 31);
    clock = {
      realSeconds: s64(at + keeper.xtime_sec),
      bootNanoseconds: offsReal - offsBoot,
      uptimeNanoseconds: s64(at + keeper.base) + offsBoot + fraction,
      monotonicNanoseconds: s64(at + keeper.base) + fraction,
      source:
        keeper.clock < 0
          ? undefined
          : { hi: view.getInt32(at + keeper.clock + 4, true), lo: view.getInt32(at + keeper.clock, true) },
    };
    if ((sequence & 1) === 0 && view.getUint32(head, true) === sequence) break;
  }
  return clock;
}

function behindSeqcount(kernel: Kernel): number {
  return Math.max(1, Math.ceil(kernel.layout(seqcount).sizeof / ALIGNMENT)) * ALIGNMENT;
}
