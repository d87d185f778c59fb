import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import { struct, symbol } from "../symbols/specs.ts";
import { programId } from "./bpf.ts";
import { instanceName } from "./ftrace.ts";
import type { Kernel } from "./kernel.ts";
import { moduleName, walkModules } from "./module.ts";
import { isNull, plus, readCString, readPointer, readU32 } from "./read.ts";

/** include/asm-generic/vmlinux.lds.h: where the image's tracepoints are, relative to each entry (46e0c9be206f, 4.19). */
const start = symbol("__start___tracepoints_ptrs");
const stop = symbol("__stop___tracepoints_ptrs");
const ENTRY = 4;

/** include/linux/tracepoint-defs.h */
const tracepoint = struct("tracepoint", { name: "name", funcs: "funcs" });
const tracepointFunc = struct("tracepoint_func", { func: "func", data: "data", prio: "prio" });
const moduleTracepoints = struct("module", {
  tracepoints_ptrs: "?tracepoints_ptrs",
  num_tracepoints: "?num_tracepoints",
});
/** include/linux/trace_events.h */
const traceEventFile = struct("?trace_event_file", { event_call: "event_call", tr: "tr" });
const traceEventCall = struct("?trace_event_call", { class: "class" });
const traceEventClass = struct("?trace_event_class", { system: "system" });
/** A probe of BPF is given the program; from 6.10 (d4dfc5700e86) the link, which got its cookie with that. */
const rawTracepointLink = struct("?bpf_raw_tp_link", { prog: "link.prog", cookie: "?cookie" });

const MAX_TRACEPOINTS = 65_536;
const MAX_PROBES = 1024;
const NAME_MAX = 255;

export interface Tracepoint {
  readonly at: Halves;
  /** The module that has it; undefined for the kernel's image. */
  readonly module: Uint8Array | undefined;
}

/**
 * Visits every tracepoint of the kernel's image and its modules.
 *
 * @returns false when the modules could not all be looked at, or `visit` said that it has enough
 */
export function walkTracepoints(
  kernel: Kernel,
  budget: Budget,
  visit: (tracepoint: Tracepoint) => boolean,
): { retried: number; complete: boolean } {
  const [from, to] = [kernel.place(start), kernel.place(stop)];
  const bytes = from.hi === to.hi ? (to.lo >>> 0) - (from.lo >>> 0) : 0;
  if (bytes < 0 || bytes / ENTRY > MAX_TRACEPOINTS) return { retried: 0, complete: false };
  const own = walkPointers(kernel, from, bytes / ENTRY, undefined, budget, visit);
  if (own === "enough") return { retried: 0, complete: true };
  let complete = own === "complete";
  const layout = kernel.layout(moduleTracepoints);
  if (layout.num_tracepoints < 0) return { retried: 0, complete };
  const modules = walkModules(kernel, budget);
  complete &&= modules.complete;
  for (let i = 0; i < modules.count; i++) {
    const at = { hi: modules.hi[i]!, lo: modules.lo[i]! };
    const count = readU32(kernel.space, at, layout.num_tracepoints);
    const pointers = readPointer(kernel.space, at, layout.tracepoints_ptrs);
    if (count === 0) continue;
    if (count === undefined || count > MAX_TRACEPOINTS || pointers === undefined) {
      complete = false;
      continue;
    }
    const walked = walkPointers(kernel, pointers, count, moduleName(kernel, at), budget, visit);
    if (walked === "enough") break;
    complete &&= walked === "complete";
  }
  return { retried: modules.retried, complete };
}

function walkPointers(
  kernel: Kernel,
  from: Halves,
  count: number,
  module: Uint8Array | undefined,
  budget: Budget,
  visit: (tracepoint: Tracepoint) => boolean,
): "complete" | "unreadable" | "enough" {
  for (let i = 0; i < count; i++) {
    budget.spend();
    const entry = plus(from, i * ENTRY);
    const offset = readU32(kernel.space, entry);
    if (offset === undefined) return "unreadable";
    if (!visit({ at: plus(entry, offset | 0), module })) return "enough";
  }
  return "complete";
}

export function tracepointName(kernel: Kernel, at: Halves): Uint8Array | undefined {
  const name = readPointer(kernel.space, at, kernel.layout(tracepoint).name);
  return name && readCString(kernel.space, name, NAME_MAX);
}

export interface Probe {
  readonly func: Halves;
  readonly data: Halves;
  readonly priority: number;
}

/** What is called at a tracepoint; undefined when that can't be read to its end. */
export function probesOf(kernel: Kernel, at: Halves, budget: Budget): Probe[] | undefined {
  const { space } = kernel;
  const layout = kernel.layout(tracepointFunc);
  const array = readPointer(space, at, kernel.layout(tracepoint).funcs);
  if (array === undefined) return undefined;
  const probes: Probe[] = [];
  if (isNull(array)) return probes;
  for (let i = 0; i < MAX_PROBES; i++) {
    budget.spend();
    const entry = plus(array, i * layout.sizeof);
    const func = readPointer(space, entry, layout.func);
    if (func === undefined) return undefined;
    if (isNull(func)) return probes;
    const data = readPointer(space, entry, layout.data);
    const priority = readU32(space, entry, layout.prio);
    if (data === undefined || priority === undefined) return undefined;
    probes.push({ func, data, priority: priority | 0 });
  }
  return undefined;
}

/** System of an event of tracefs, and the instance that records it (empty for the top), by the data of its probe. */
export function eventOf(kernel: Kernel, data: Halves): { system: Uint8Array; instance: Uint8Array } | undefined {
  const { space } = kernel;
  const file = kernel.layout(traceEventFile);
  const offsets = [kernel.layout(traceEventCall).class, kernel.layout(traceEventClass).system];
  if (file.tr < 0 || offsets.some((offset) => offset < 0)) return undefined;
  let at = readPointer(space, data, file.event_call);
  for (const offset of offsets) at = at && readPointer(space, at, offset);
  const system = at && readCString(space, at, NAME_MAX);
  const array = readPointer(space, data, file.tr);
  const instance = array && instanceName(kernel, array);
  return system && instance && { system, instance };
}

/** Id of the BPF program that a probe of BPF runs, by the probe's data. */
export function probeProgramId(kernel: Kernel, data: Halves): number | undefined {
  const { prog, cookie } = kernel.layout(rawTracepointLink);
  const program = cookie < 0 ? data : readPointer(kernel.space, data, prog);
  return program && programId(kernel, program);
}
