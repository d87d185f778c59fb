import { programAux } from "../linux/bpf.ts";
import { type BpfHelper, dangerousHelpers } from "../linux/bpf-helpers.ts";
import { bpfTargets, targetKey } from "../linux/bpf-targets.ts";
import { consistently } from "../linux/consistent.ts";
import { halvesOf } from "../linux/mm.ts";
import { bpfLinks } from "../tables/bpf-links.ts";
import { loadedBpfPrograms } from "../tables/loaded-bpf-programs.ts";
import { type CheckContext, type CheckRow, defineCheck, type Severity } from "./check.ts";
import { describeProgram, programs } from "./programs.ts";

/** Kinds of programs that look on, and may change, what the kernel and processes do. */
const TRACING: ReadonlySet<unknown> = new Set(
  "kprobe tracepoint perf_event raw_tracepoint raw_tracepoint_writable tracing lsm ext".split(" "),
);
/** Kinds that get packets before any firewall. */
const PACKETS: ReadonlySet<unknown> = new Set(["xdp", "sched_cls", "sched_act", "netfilter"]);

const HELPERS: Readonly<Record<BpfHelper, readonly [Severity, string]>> = {
  bpf_probe_write_user: ["high", "may write into the memory of processes"],
  bpf_override_return: ["high", "may change what functions of the kernel return"],
  bpf_send_signal: ["medium", "may send signals to processes"],
  bpf_send_signal_thread: ["medium", "may send signals to processes"],
};

/** What rootkits hook, and tools that measure hardly do; without the prefixes of system calls, LSM and the like. */
const SENSITIVE: readonly (readonly [RegExp, string])[] = [
  [/^(getdents(64)?|filldir(64)?|iterate_dir|next_tgid|proc_pid_readdir)$/, "what lists directories and processes"],
  [/^(tcp|udp|raw|packet|unix)[46]?_seq_show$/, "what lists sockets"],
  [/^(commit_creds|prepare_(kernel_)?cred|override_creds|cap_capable|capable|setre?s?[ug]id)$/, "who has which rights"],
  [/^(bpf|bpf_prog|bpf_map|bpf_prog_load|bpf_(prog|map|link)_get_.*)$/, "what shows eBPF programs"],
  [/^(kill|tkill|tgkill|task_kill|ptrace|ptrace_access_check)$/, "how processes are ended and traced"],
  [/^((f?init|delete)_module|do_init_module|load_module|kernel_(read|load)_.*)$/, "how modules are loaded"],
  [
    /^(n_)?tty_(read|write|insert_flip_.*|receive_.*)$|^pty_write$|^kbd_event$|^input_(handle_)?event$/,
    "what is typed",
  ],
];
const PREFIXES = /^(return of |__(x64|ia32|x32|se|do)_)?(sys_enter_|sys_exit_|sys_|bpf_lsm_|security_)?/;
/** Programs and libraries through which secrets go, by their files. */
const SECRETS = /\/(libssl|libcrypto|libgnutls|libnss3|libpam|libcrypt|sshd|sudo|su|login|bash)[^/]*\+0x/;

export const ebpfPrograms = defineCheck({
  name: "ebpf-programs",
  severity: "high",
  cost: "walk",
  compares:
    "Each eBPF program that is loaded: what it is called at (links, perf events on kprobes, uprobes and tracepoints, functions " +
    "it is made for), with what rootkits hook; and the helpers that its instructions call, with those that change others: " +
    "bpf_probe_write_user, bpf_override_return, bpf_send_signal. Other tracing, and programs that get packets before any " +
    "firewall, are told as info.",
  misses:
    "What a program does with what it sees. Programs of cgroups and sockets are left out: systemd has some. Programs that were " +
    "taken out of prog_idr, and targets of uprobe_multi links. Security software that hooks the same is reported: a " +
    "baseline keeps it.",
  confirm:
    "SELECT * FROM loaded_bpf_programs, bpf_links, kprobes and tracepoints_attached. In the guest, bpftool prog dump xlated id N " +
    "shows the instructions, bpftool perf and bpftool link what they are attached to.",
  reads: [
    "prog_idr, link_idr",
    "bpf_prog.insnsi, __bpf_call_base",
    "bpf_prog_aux",
    "kprobe_table, ftrace_events, uprobes_tree",
    "trace_event_call.prog_array, bpf_prog_array",
    "bpf_kprobe_multi_link (from 5.18: 0dcac2725406)",
    "files_struct, file",
  ],
  look: (context) => {
    const looksOn = ({ type }: CheckRow) => TRACING.has(type) || PACKETS.has(type);
    // Who holds programs takes a walk of all descriptors, and systemd has programs of other kinds everywhere.
    if (!context.rows(loadedBpfPrograms, { columns: ["type"] }).some(looksOn)) return;
    const columns = ["id", "type", "name", "uid", "attach_function", "pids", "program"];
    const rows = context.rows(loadedBpfPrograms, { columns }).filter(looksOn);
    const links = Map.groupBy(
      context.rows(bpfLinks, { columns: ["type", "program_id", "target", "pids"] }),
      (row) => row.program_id,
    );
    const { kernel, budget } = context;
    const targets = consistently(kernel, budget, () => bpfTargets(kernel, budget))?.value;
    if (targets === undefined) context.incomplete("what programs are attached to kept changing");
    for (const row of rows) {
      const at = halvesOf(BigInt(row.program as string));
      const own = links.get(row.id) ?? [];
      const helpers = consistently(kernel, budget, () => {
        const called = dangerousHelpers(kernel, at, budget);
        return programAux(kernel, at, row.id as number) === undefined ? undefined : called;
      })?.value;
      if (helpers === undefined) context.incomplete(`the instructions of eBPF program ${row.id} can't be read`);
      const places = [
        ...new Set([row.attach_function, ...own.map(({ target }) => target), ...(targets?.get(targetKey(at)) ?? [])]),
      ].filter((place) => typeof place === "string");
      report(context, row, own, places, helpers ?? new Set());
    }
  },
});

function report(
  context: CheckContext,
  program: CheckRow,
  links: readonly CheckRow[],
  places: readonly string[],
  helpers: ReadonlySet<BpfHelper>,
): void {
  const { id, type, uid } = program;
  const name = program.name || "no name";
  const sensitive = places.flatMap((place) => {
    const why = whySensitive(place);
    return why === undefined ? [] : [`${place} (${why})`];
  });
  const called = [...helpers].map((helper) => HELPERS[helper]);
  const severity = called.some(([one]) => one === "high")
    ? "high"
    : called.length + sensitive.length > 0
      ? "medium"
      : "info";
  const at = places.length === 0 ? "" : `${PACKETS.has(type) ? " for" : " at"} ${list(places)}`;
  const does = PACKETS.has(type) ? "gets packets" : "is called";
  const abilities = [...new Set(called.map(([, ability]) => `, and ${ability}`))].join("");
  const holders = holdersOf(context, [program, ...links]);
  context.report({
    what: `eBPF program ${id} (${name}) ${does}${at}${abilities}`,
    where: `eBPF program ${id} (${name}), of type ${type}`,
    evidence: [
      `loaded by user ${uid}`,
      holders.length > 0
        ? `held by ${holders.join(", ")}`
        : "no process has a descriptor of it or of a link: pinned, or attached",
      ...(sensitive.length > 0 ? [`rootkits hook ${list(sensitive)}`] : []),
      ...(helpers.size > 0 ? [`calls ${[...helpers].sort().join(", ")}`] : []),
    ].join("; "),
    expected: "programs of the software that is known to trace here",
    identity:
      `${type} ${name} ${[...places].sort().slice(0, MAX_PLACES).join(" ")} ${[...helpers].sort().join(" ")}`.trim(),
    severity,
    address: halvesOf(BigInt(program.program as string)),
  });
}

/** Of the places of one program, so many are named. */
const MAX_PLACES = 8;

function list(places: readonly string[]): string {
  const more = places.length - MAX_PLACES;
  return `${places.slice(0, MAX_PLACES).join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
}

function whySensitive(place: string): string | undefined {
  const function_ = place.replace(PREFIXES, "").replace(/\+0x.*$/, "");
  return (
    SENSITIVE.find(([pattern]) => pattern.test(function_))?.[1] ??
    (SECRETS.test(place) ? "what secrets go through" : undefined)
  );
}

function holdersOf(context: CheckContext, rows: readonly CheckRow[]): string[] {
  const pids = new Set(rows.flatMap(({ pids }) => (typeof pids === "string" ? pids.split(",").map(Number) : [])));
  if (pids.size === 0) return [];
  const all = context.shared(programs);
  return [...pids].map((pid) => describeProgram(all.get(pid) ?? { pid, name: "?", path: undefined }));
}
