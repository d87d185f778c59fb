import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import { type SymbolSpec, struct, symbol } from "../symbols/specs.ts";
import { bpfLink, linkType, walkBpf } from "./bpf.ts";
import type { Kernel } from "./kernel.ts";
import { describeAddress, symbolText } from "./kernel-address.ts";
import { isReturnProbe, kprobe, kprobeCall, walkKprobes } from "./kprobe.ts";
import { walkList } from "./list.ts";
import { isNull, latin1, plus, readCString, readPointer, readU32, sameAddress } from "./read.ts";
import { tracepointName } from "./tracepoint.ts";
import { uprobeConsumers, walkUprobes } from "./uprobe.ts";

/** kernel/trace/trace_events.c: every event of tracefs, but those that perf has made for itself. */
const ftraceEvents = symbol("?ftrace_events");
const uprobeDispatcher = symbol("?uprobe_dispatcher");
const uretprobeDispatcher = symbol("?uretprobe_dispatcher");

/** What registers events by their kind: those of a tracepoint have it in place of their name, those of probes are found by these. */
const tracepointRegister = symbol("?trace_event_reg");
const probeRegisters = [symbol("?kprobe_register"), symbol("?trace_uprobe_register")];

/** include/linux/trace_events.h: `prog_array` is what runs for the event, with CONFIG_PERF_EVENTS. */
const traceEventCall = struct("?trace_event_call", {
  list: "list",
  class: "class",
  name: "name",
  prog_array: "?prog_array",
});
const traceEventClass = struct("?trace_event_class", { reg: "reg" });
const progArray = struct("?bpf_prog_array", { items: "items" });
const progArrayItem = struct("?bpf_prog_array_item", { prog: "prog" });
/** kernel/trace/trace_uprobe.c, trace_probe.h (from 5.4: 60d53e2c3b75). */
const traceUprobe = struct("?trace_uprobe", {
  consumer: "consumer",
  filename: "filename",
  offset: "offset",
  event: "?tp.event",
});
const traceProbeEvent = struct("?trace_probe_event", { call: "call" });
/** kernel/trace/bpf_trace.c, from 5.18 (0dcac2725406). */
const kprobeMultiLink = struct("?bpf_kprobe_multi_link", { link: "link", addrs: "addrs", cnt: "cnt" });

/** Bytes of the instruction that every function begins with for indirect branch tracking: probes of the function are behind it. */
const ENDBR = 4;
const MAX_EVENTS = 65_536;
/** BPF_TRACE_MAX_PROGS */
const MAX_PROGRAMS = 64;
/** Of the functions of one link, those that are told. */
const MAX_FUNCTIONS = 4096;
const MAX_NAME = 256;

/** What programs are called at beside what their links tell, by `targetKey`: functions, `system:event`, places of files. */
export type BpfTargets = ReadonlyMap<string, ReadonlySet<string>>;

export function targetKey({ hi, lo }: Halves): string {
  return `${hi}:${lo}`;
}

/** Programs that were given to perf events (PERF_EVENT_IOC_SET_BPF) or to many functions at once. */
export function bpfTargets(kernel: Kernel, budget: Budget): BpfTargets {
  const found = new Map<string, Set<string>>();
  const add = (program: Halves, target: string) => {
    const key = targetKey(program);
    const known = found.get(key);
    if (known === undefined) found.set(key, new Set([target]));
    else known.add(target);
  };
  kprobeTargets(kernel, budget, add);
  tracepointTargets(kernel, budget, add);
  uprobeTargets(kernel, budget, add);
  multiTargets(kernel, budget, add);
  return found;
}

type Add = (program: Halves, target: string) => void;

function kprobeTargets(kernel: Kernel, budget: Budget, add: Add): void {
  const { addr } = kernel.layout(kprobe);
  walkKprobes(kernel, budget, ({ at }) => {
    const call = kprobeCall(kernel, at);
    const programs = call ? programsOf(kernel, call, budget) : [];
    if (programs.length === 0) return true;
    const address = readPointer(kernel.space, at, addr);
    const place = address && placeText(kernel, address, budget);
    const kind = isReturnProbe(kernel, at) ? "return of " : "";
    for (const program of programs) add(program, `${kind}${place ?? "?"}`);
    return true;
  });
}

function tracepointTargets(kernel: Kernel, budget: Budget, add: Add): void {
  const events = kernel.optionalPlace(ftraceEvents);
  const layout = kernel.layout(traceEventCall);
  if (events === undefined || layout.prog_array < 0) return;
  const list = walkList(kernel, events, layout.list, MAX_EVENTS, budget);
  for (let i = 0; i < list.count; i++) {
    const call = { hi: list.hi[i]!, lo: list.lo[i]! };
    const programs = programsOf(kernel, call, budget);
    if (programs.length === 0) continue;
    const kind = readPointer(kernel.space, call, layout.class);
    const register = kind && readPointer(kernel.space, kind, kernel.layout(traceEventClass).reg);
    if (probeRegisters.some((spec) => isPlace(kernel, register, spec))) continue;
    const name = readPointer(kernel.space, call, layout.name);
    const isTracepoint = isPlace(kernel, register, tracepointRegister);
    const bytes = name && (isTracepoint ? tracepointName(kernel, name) : readCString(kernel.space, name, MAX_NAME));
    for (const program of programs) add(program, bytes === undefined ? "?" : latin1(bytes));
  }
}

function uprobeTargets(kernel: Kernel, budget: Budget, add: Add): void {
  const { space } = kernel;
  const layout = kernel.layout(traceUprobe);
  const { call } = kernel.layout(traceProbeEvent);
  if (layout.event < 0 || call < 0) return;
  const probes = walkUprobes(kernel, budget);
  for (let i = 0; i < probes.count; i++) {
    for (const consumer of uprobeConsumers(kernel, { hi: probes.hi[i]!, lo: probes.lo[i]! }, budget) ?? []) {
      const ours =
        isPlace(kernel, consumer.handler, uprobeDispatcher) ||
        isPlace(kernel, consumer.returnHandler, uretprobeDispatcher);
      if (!ours) continue;
      const probe = plus(consumer.at, -layout.consumer);
      const event = readPointer(space, probe, layout.event);
      const programs = event && !isNull(event) ? programsOf(kernel, plus(event, call), budget) : [];
      const file = programs.length > 0 ? readPointer(space, probe, layout.filename) : undefined;
      const path = file && readCString(space, file, MAX_NAME);
      const offset = readU32(space, probe, layout.offset) ?? 0;
      for (const program of programs) add(program, `${path ? latin1(path) : "?"}+0x${offset.toString(16)}`);
    }
  }
}

function multiTargets(kernel: Kernel, budget: Budget, add: Add): void {
  const { space } = kernel;
  const layout = kernel.layout(kprobeMultiLink);
  if (layout.sizeof === 0) return;
  walkBpf(kernel, "link", budget, (_id, at) => {
    if (linkType(kernel, at) !== "kprobe_multi") return true;
    const link = plus(at, -layout.link);
    const program = readPointer(space, at, kernel.layout(bpfLink).prog);
    const array = readPointer(space, link, layout.addrs);
    const count = Math.min(readU32(space, link, layout.cnt) ?? 0, MAX_FUNCTIONS);
    for (let i = 0; program !== undefined && array !== undefined && i < count; i++) {
      budget.spend();
      const address = readPointer(space, array, i * 8);
      const name = address && placeText(kernel, address, budget);
      if (name !== undefined) add(program, name);
    }
    return true;
  });
}

function placeText(kernel: Kernel, address: Halves, budget: Budget): string | undefined {
  const found = describeAddress(kernel, address, budget);
  return found.offset <= ENDBR ? found.symbol : symbolText(found);
}

function isPlace(kernel: Kernel, pointer: Halves | undefined, spec: SymbolSpec): boolean {
  const place = kernel.optionalPlace(spec);
  return pointer !== undefined && place !== undefined && sameAddress(pointer, place);
}

/** The programs that run for an event (kernel/events/core.c: perf_event_attach_bpf_prog). */
function programsOf(kernel: Kernel, call: Halves, budget: Budget): Halves[] {
  const { space } = kernel;
  const { prog_array } = kernel.layout(traceEventCall);
  const { items } = kernel.layout(progArray);
  const item = kernel.layout(progArrayItem);
  const array = prog_array < 0 || items < 0 ? undefined : readPointer(space, call, prog_array);
  const found: Halves[] = [];
  budget.spend();
  if (array === undefined || isNull(array)) return found;
  for (let i = 0; i < MAX_PROGRAMS; i++) {
    const program = readPointer(space, array, items + i * item.sizeof + item.prog);
    if (program === undefined || isNull(program)) break;
    found.push(program);
  }
  return found;
}
