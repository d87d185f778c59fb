import { GuestError } from "../errors.ts";
import { bpfLinks } from "../tables/bpf-links.ts";
import { ftraceHooks } from "../tables/ftrace-hooks.ts";
import { kernelModules } from "../tables/kernel-modules.ts";
import { kprobes } from "../tables/kprobes.ts";
import { loadedBpfPrograms } from "../tables/loaded-bpf-programs.ts";
import { netfilterHooks } from "../tables/netfilter-hooks.ts";
import { uprobes } from "../tables/uprobes.ts";
import { type CheckContext, type CheckRow, defineCheck } from "./check.ts";

/** What there is one of, without addresses and numbers that another boot would have otherwise. */
interface Item {
  readonly what: string;
  readonly where: string;
  readonly evidence?: string;
}

const kinds: readonly ((context: CheckContext) => Iterable<Item>)[] = [
  modules,
  functionTracing,
  kernelProbes,
  userProbes,
  bpf,
  netfilter,
];

export const inventory = defineCheck({
  name: "inventory",
  severity: "info",
  cost: "walk",
  compares:
    "Nothing by itself: it lists what extends or hooks the kernel by the kernel's own means, modules, ftrace, kprobes, " +
    "uprobes, BPF programs and links, and netfilter hooks. A baseline keeps the list, and what comes or goes later is reported.",
  misses:
    "What is in none of the kernel's own lists: other checks look for that. Two of a kind with the same names are one. " +
    "A module that is another under the same name is the same here.",
  confirm:
    "The tables kernel_modules, ftrace_hooks, kprobes, uprobes, bpf_links, loaded_bpf_programs and netfilter_hooks have all " +
    "that is known of each.",
  reads: [
    "modules",
    "ftrace_ops_list",
    "kprobe_table",
    "uprobes_tree",
    "prog_idr",
    "link_idr",
    "net.nf",
    "net_device.nf_hooks_ingress",
  ],
  look: (context) => {
    for (const kind of kinds) listKind(context, kind);
  },
});

/** What this kernel was built without is no reason not to list the rest. */
function listKind(context: CheckContext, kind: (typeof kinds)[number]): void {
  try {
    for (const { what, where, evidence = what } of kind(context)) {
      context.report({ what, where, evidence, expected: "what the baseline has", identity: what });
    }
  } catch (error) {
    if (!(error instanceof GuestError && error.kind === "unsupported-kernel")) throw error;
    context.incomplete(error.message);
  }
}

/** A function by its name and module, as far as it has them. */
function named(symbol: CheckRow[string], module: CheckRow[string]): string {
  if (symbol === undefined) return "code made at run time";
  return module === undefined || module === "" ? `${symbol}` : `${symbol} of module ${module}`;
}

function* modules(context: CheckContext): Generator<Item> {
  for (const { name, taints } of context.rows(kernelModules, { columns: ["name", "taints"] })) {
    const what = `module ${name} is loaded`;
    yield { what, where: `module ${name}`, evidence: taints ? `taints ${taints}` : what };
  }
}

function* functionTracing(context: CheckContext): Generator<Item> {
  const columns = ["name", "instance", "symbol", "module", "functions"];
  for (const { name, instance, symbol, module, functions } of context.rows(ftraceHooks, { columns })) {
    const what = `ftrace calls ${named(symbol, module)}${functions === undefined ? "" : ` at ${functions}`}`;
    yield { what, where: name ? `ftrace_ops ${name}` : instance ? `trace instance ${instance}` : "ftrace_ops_list" };
  }
}

function* kernelProbes(context: CheckContext): Generator<Item> {
  const columns = ["symbol", "offset", "module", "type", "event", "aggregated"];
  const handlers = ["pre_handler_symbol", "pre_handler_module", "return_handler_symbol"];
  for (const row of context.rows(kprobes, { columns: [...columns, ...handlers] })) {
    const called = row.type === "r" ? named(row.return_handler_symbol, undefined) : pre(row);
    const of = row.event === undefined ? `calls ${called}` : `serves the event ${row.event}`;
    const where = named(`${row.symbol ?? "?"}+${row.offset}`, row.module);
    yield { what: `${row.type === "r" ? "a return probe" : "a kprobe"} at ${where} ${of}`, where };
  }
}

const pre = ({ pre_handler_symbol: symbol, pre_handler_module: module }: CheckRow) => named(symbol, module);

function* userProbes(context: CheckContext): Generator<Item> {
  for (const { path, offset, handlers } of context.rows(uprobes, { columns: ["path", "offset", "handlers"] })) {
    const where = `${path ?? "a file without a path"}+${offset}`;
    yield { what: `a uprobe at ${where} calls ${handlers ?? "nothing"}`, where };
  }
}

function* bpf(context: CheckContext): Generator<Item> {
  const columns = ["id", "type", "name", "tag", "attach_function"];
  const programs = new Map<CheckRow[string], string>();
  for (const { id, type, name, tag, attach_function: at } of context.rows(loadedBpfPrograms, { columns })) {
    const program = `${type} ${name || "without a name"} (${tag})`;
    programs.set(id, program);
    yield {
      what: `BPF program ${program} is loaded${at === undefined ? "" : ` for ${at}`}`,
      where: `BPF program ${id}`,
    };
  }
  for (const { id, type, program_id, target } of context.rows(bpfLinks, {
    columns: ["id", "type", "program_id", "target"],
  })) {
    const program = programs.get(program_id) ?? "that is no longer listed";
    const what = `BPF link of type ${type}${target === undefined ? "" : ` at ${target}`} to ${program}`;
    yield { what, where: `BPF link ${id}` };
  }
}

function* netfilter(context: CheckContext): Generator<Item> {
  const columns = ["family", "hook", "priority", "symbol", "module", "device"];
  for (const { family, hook, priority, symbol, module, device } of context.rows(netfilterHooks, { columns })) {
    const where = `${family} ${hook} at priority ${priority}${device === undefined ? "" : ` of ${device}`}`;
    yield { what: `netfilter calls ${named(symbol, module)} in ${where}`, where };
  }
}
