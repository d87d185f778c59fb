import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import { struct, symbol } from "../symbols/specs.ts";
import { walkHlist } from "./hlist.ts";
import type { Kernel } from "./kernel.ts";
import { walkList } from "./list.ts";
import { isNull, plus, readCString, readPointer, readU32, sameAddress } from "./read.ts";

/** kernel/kprobes.c: 64 chains in every version (KPROBE_HASH_BITS). */
const kprobeTable = symbol("kprobe_table");
const TABLE_SIZE = 64;
/** Stands in for several probes at one place, and for one that is to be optimised. */
const aggregateHandler = symbol("?aggr_pre_handler");
const returnHandler = symbol("?pre_handler_kretprobe");
/** kernel/trace/trace_kprobe.c: the handlers of probes that tracefs and perf make. */
const entryDispatcher = symbol("?kprobe_dispatcher");
const returnDispatcher = symbol("?kretprobe_dispatcher");

/** include/linux/kprobes.h */
export const kprobe = struct("kprobe", {
  hlist: "hlist",
  list: "list",
  nmissed: "nmissed",
  addr: "addr",
  pre_handler: "pre_handler",
  post_handler: "post_handler",
  flags: "flags",
});
const kretprobe = struct("?kretprobe", { kp: "kp", handler: "handler" });
/** `event` from 5.4 (60d53e2c3b75). */
const traceKprobe = struct("?trace_kprobe", { kp: "rp.kp", event: "?tp.event" });
const traceProbeEvent = struct("?trace_probe_event", { class: "class", call: "call" });
const traceEventClass = struct("?trace_event_class", { system: "system" });
const traceEventCall = struct("?trace_event_call", { name: "name" });

/** KPROBE_FLAG_… */
export const KPROBE_FLAGS = { gone: 1, disabled: 2, optimized: 4, ftrace: 8 } as const;

const MAX_PROBES = 65_536;
/** MAX_EVENT_NAME_LEN */
const MAX_NAME = 64;

export interface Kprobe {
  readonly at: Halves;
  /** The probe that is in the table: itself, or one that stands for several. */
  readonly head: Halves;
}

/**
 * Visits every registered probe, also those that another stands for, as /sys/kernel/debug/kprobes/list does.
 *
 * @returns how often a chain was walked anew, and whether all of them could be followed to their ends
 */
export function walkKprobes(
  kernel: Kernel,
  budget: Budget,
  visit: (probe: Kprobe) => boolean,
): { retried: number; complete: boolean } {
  const { space } = kernel;
  const layout = kernel.layout(kprobe);
  const table = kernel.place(kprobeTable);
  const aggregate = kernel.optionalPlace(aggregateHandler);
  let retried = 0;
  let complete = true;
  for (let bucket = 0; bucket < TABLE_SIZE; bucket++) {
    const chain = walkHlist(kernel, plus(table, bucket * 8), layout.hlist, MAX_PROBES, budget);
    retried += chain.retried;
    complete &&= chain.complete;
    for (let i = 0; i < chain.count; i++) {
      const head = { hi: chain.hi[i]!, lo: chain.lo[i]! };
      const handler = readPointer(space, head, layout.pre_handler);
      if (handler === undefined || aggregate === undefined || !sameAddress(handler, aggregate)) {
        if (!visit({ at: head, head })) return { retried, complete };
        continue;
      }
      const own = walkList(kernel, plus(head, layout.list), layout.list, MAX_PROBES, budget);
      retried += own.retried;
      complete &&= own.complete;
      for (let j = 0; j < own.count; j++) {
        if (!visit({ at: { hi: own.hi[j]!, lo: own.lo[j]! }, head })) return { retried, complete };
      }
    }
  }
  return { retried, complete };
}

/** The handler of a return probe, by its kprobe; undefined for what is none. */
export function returnProbeHandler(kernel: Kernel, probe: Halves): Halves | undefined {
  const { kp, handler } = kernel.layout(kretprobe);
  return handler >= 0 && isReturnProbe(kernel, probe)
    ? readPointer(kernel.space, plus(probe, -kp), handler)
    : undefined;
}

export function isReturnProbe(kernel: Kernel, probe: Halves): boolean {
  return pointsTo(kernel, readPointer(kernel.space, probe, kernel.layout(kprobe).pre_handler), returnHandler);
}

/** `group:name` of the event of tracefs that a probe belongs to; undefined for probes of others. */
export function kprobeEvent(kernel: Kernel, probe: Halves): Uint8Array | undefined {
  const at = probeEventOf(kernel, probe);
  const event = kernel.layout(traceProbeEvent);
  if (at === undefined) return undefined;
  const system = text(kernel, at, event.class + kernel.layout(traceEventClass).system);
  const name = text(kernel, at, event.call + kernel.layout(traceEventCall).name);
  return system && name && Buffer.concat([system, COLON, name]);
}

/** The struct trace_event_call of a probe that tracefs or perf made; undefined for probes of others. */
export function kprobeCall(kernel: Kernel, probe: Halves): Halves | undefined {
  const at = probeEventOf(kernel, probe);
  return at && plus(at, kernel.layout(traceProbeEvent).call);
}

function probeEventOf(kernel: Kernel, probe: Halves): Halves | undefined {
  const { space } = kernel;
  const layout = kernel.layout(traceKprobe);
  const pre = readPointer(space, probe, kernel.layout(kprobe).pre_handler);
  const ours =
    pointsTo(kernel, pre, entryDispatcher) || pointsTo(kernel, returnProbeHandler(kernel, probe), returnDispatcher);
  if (!ours || layout.event < 0 || kernel.layout(traceProbeEvent).call < 0) return undefined;
  const at = readPointer(space, plus(probe, -layout.kp), layout.event);
  return at === undefined || isNull(at) ? undefined : at;
}

/** Flags of a probe: disabled is its own, optimised and ftrace those of what is in the table. */
export function kprobeFlags(kernel: Kernel, { at, head }: Kprobe): { own: number; head: number } | undefined {
  const { flags } = kernel.layout(kprobe);
  const own = readU32(kernel.space, at, flags);
  const shared = readU32(kernel.space, head, flags);
  return own === undefined || shared === undefined ? undefined : { own, head: shared };
}

const COLON = Buffer.from(":");

function pointsTo(kernel: Kernel, pointer: Halves | undefined, target: typeof kprobeTable): boolean {
  const place = kernel.optionalPlace(target);
  return pointer !== undefined && place !== undefined && sameAddress(pointer, place);
}

function text(kernel: Kernel, at: Halves, member: number): Uint8Array | undefined {
  const pointer = readPointer(kernel.space, at, member);
  return pointer && readCString(kernel.space, pointer, MAX_NAME);
}
