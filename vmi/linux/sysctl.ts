import type { Budget } from "../budget.ts";
import { type Halves, signedNumberOf } from "../bytes/address.ts";
import { struct, symbol } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { describeAddress } from "./kernel-address.ts";
import { walkRbTree } from "./rbtree.ts";
import { isNull, plus, readCString, readPointer, readU32 } from "./read.ts";

/**
 * The tree of /proc/sys (fs/proc/proc_sysctl.c): directories are red-black trees of the entries of registered tables.
 * What hangs on a namespace has a tree of its own; those of the initial namespaces are walked after the common one.
 */
const tableRoot = symbol("?sysctl_table_root");
const initNet = symbol("?init_net");
const initIpc = symbol("?init_ipc_ns");
const initUser = symbol("?init_user_ns");
const clocksourceJiffies = symbol("?clocksource_jiffies");

/** What has its variable in its function, and not in its table: kernel/panic.c, drivers/tty/sysrq.c, kernel/fork.c. */
const taintedMask = symbol("?tainted_mask");
const sysrqEnabled = symbol("?sysrq_enabled");
const sysrqAlwaysEnabled = symbol("?sysrq_always_enabled");
const maxThreads = symbol("?max_threads");

/** include/linux/sysctl.h */
const ctlTableRoot = struct("?ctl_table_root", { dir: "default_set.dir" });
const ctlDir = struct("?ctl_dir", { header: "header", root: "root" });
const ctlNode = struct("?ctl_node", { node: "node", header: "header" });
const ctlTableHeader = struct("?ctl_table_header", { table: "ctl_table", node: "node" });
const ctlTable = struct("?ctl_table", {
  procname: "procname",
  data: "data",
  maxlen: "maxlen",
  mode: "mode",
  handler: "proc_handler",
});
const netSysctls = struct("?net", { dir: "sysctls.dir" });
/** From 5.19 (1f5c135ee509, dc55e35f9e81). */
const ipcSysctls = struct("?ipc_namespace", { ipc: "?ipc_set.dir", mq: "?mq_set.dir" });
const userSysctls = struct("?user_namespace", { dir: "?set.dir" });
const clocksource = struct("?clocksource", { mult: "mult" });

const MAX_DEPTH = 16;
const MAX_ENTRIES = 65_536;
const MAX_NAME = 64;
const MAX_STRING = 4096;
/** Values of one parameter beyond this are not shown. */
const MAX_VALUES = 64;
const ENTRY_COST = 8;
const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFLNK = 0o120000;

/** What a parameter's memory holds, by the function that reads and writes it. */
export type SysctlKind = keyof typeof SIZES | "string";

export interface Sysctl {
  /** Names from the root on. */
  readonly path: readonly string[];
  readonly mode: number;
  readonly handler: string | undefined;
  /** Undefined for one whose function makes up its value. */
  readonly kind: SysctlKind | undefined;
  readonly data: Halves;
  readonly length: number;
}

export interface SysctlWalk {
  readonly complete: boolean;
  readonly retried: number;
}

/**
 * Calls `visit` for each parameter until it returns false. Undefined when the kernel has no such tree.
 *
 * @param enter whether anything below a directory, or the parameter of that path, is wanted
 */
export function walkSysctls(
  kernel: Kernel,
  enter: (path: readonly string[]) => boolean,
  budget: Budget,
  visit: (parameter: Sysctl) => boolean,
): SysctlWalk | undefined {
  const roots = rootsOf(kernel);
  if (roots.length === 0 || kernel.layout(ctlTable).handler < 0) return undefined;
  const handlers = new Map<string, string | undefined>();
  const handlerAt = (at: Halves) => {
    const key = `${at.hi}:${at.lo}`;
    if (!handlers.has(key)) {
      const { symbol: name, offset } = describeAddress(kernel, at, budget);
      handlers.set(key, offset === 0 ? name : undefined);
    }
    return handlers.get(key);
  };
  const pending: { dir: Halves; path: readonly string[] }[] = roots.reverse().map((dir) => ({ dir, path: [] }));
  let complete = true;
  let retried = 0;
  let entries = 0;
  while (pending.length > 0) {
    const { dir, path } = pending.pop()!;
    const nodes = walkRbTree(
      kernel,
      plus(dir, kernel.layout(ctlDir).root),
      kernel.layout(ctlNode).node,
      MAX_ENTRIES,
      budget,
    );
    retried += nodes.retried;
    complete &&= nodes.complete;
    for (let i = 0; i < nodes.count; i++) {
      budget.spend(ENTRY_COST);
      if (++entries > MAX_ENTRIES) return { complete: false, retried };
      const entry = readEntry(kernel, { hi: nodes.hi[i]!, lo: nodes.lo[i]! });
      if (entry === undefined) {
        complete = false;
        continue;
      }
      const { name, mode, header } = entry;
      const below = [...path, name];
      if ((mode & S_IFMT) === S_IFLNK || !enter(below)) continue;
      if ((mode & S_IFMT) === S_IFDIR) {
        if (below.length < MAX_DEPTH) pending.push({ dir: plus(header, -kernel.layout(ctlDir).header), path: below });
        else complete = false;
        continue;
      }
      const handler = handlerAt(entry.handler);
      const { data, length } = entry;
      const kind = handler === undefined ? undefined : HANDLERS.get(handler);
      const kept = variableOf(kernel, handler) ?? { data, length, kind };
      if (!visit({ path: below, mode: mode & 0o7777, handler, ...kept })) return { complete, retried };
    }
  }
  return { complete, retried };
}

/** The variable that a function shows on its own. */
function variableOf(kernel: Kernel, handler: string | undefined): Pick<Sysctl, "data" | "length" | "kind"> | undefined {
  const shown = (spec: typeof taintedMask, kind: "int" | "long" | "bool") => {
    const data = kernel.optionalPlace(spec);
    return data && { data, length: SIZES[kind], kind };
  };
  switch (handler) {
    case "proc_taint":
      return shown(taintedMask, "long");
    case "sysctl_max_threads":
      return shown(maxThreads, "int");
    case "sysrq_sysctl_handler": {
      // As sysrq_mask() has it.
      const always = kernel.optionalPlace(sysrqAlwaysEnabled);
      const isAlways = always !== undefined && ((readU32(kernel.space, always) ?? 0) & 0xff) !== 0;
      return isAlways ? shown(sysrqAlwaysEnabled, "bool") : shown(sysrqEnabled, "int");
    }
    default:
      return undefined;
  }
}

function rootsOf(kernel: Kernel): Halves[] {
  return [
    { place: kernel.optionalPlace(tableRoot), offset: kernel.layout(ctlTableRoot).dir },
    { place: kernel.optionalPlace(initNet), offset: kernel.layout(netSysctls).dir },
    { place: kernel.optionalPlace(initIpc), offset: kernel.layout(ipcSysctls).ipc },
    { place: kernel.optionalPlace(initIpc), offset: kernel.layout(ipcSysctls).mq },
    { place: kernel.optionalPlace(initUser), offset: kernel.layout(userSysctls).dir },
  ].flatMap(({ place, offset }) => (place === undefined || offset < 0 ? [] : [plus(place, offset)]));
}

/** A node is one of an array that is parallel to its table. */
function readEntry(kernel: Kernel, node: Halves) {
  const { space } = kernel;
  const head = kernel.layout(ctlTableHeader);
  const table = kernel.layout(ctlTable);
  const header = readPointer(space, node, kernel.layout(ctlNode).header);
  const nodes = header && readPointer(space, header, head.node);
  const entries = header && readPointer(space, header, head.table);
  if (header === undefined || nodes === undefined || entries === undefined) return undefined;
  const distance = signedNumberOf(node.hi, node.lo) - signedNumberOf(nodes.hi, nodes.lo);
  const index = distance / kernel.layout(ctlNode).sizeof;
  if (!Number.isInteger(index) || index < 0 || index > MAX_ENTRIES) return undefined;
  const at = plus(entries, index * table.sizeof);
  const nameAt = readPointer(space, at, table.procname);
  const name = nameAt && readCString(space, nameAt, MAX_NAME);
  const mode = readU32(space, at, table.mode);
  const length = readU32(space, at, table.maxlen);
  const data = readPointer(space, at, table.data);
  const handler = readPointer(space, at, table.handler);
  if (name === undefined || mode === undefined || length === undefined || data === undefined || handler === undefined)
    return undefined;
  return { header, name: Buffer.from(name).toString(), mode: mode & 0xffff, length, data, handler };
}

/** As /proc/sys shows it, several values separated by tabs. Undefined where it can't be read or its kind is not known. */
export function sysctlValue(kernel: Kernel, parameter: Sysctl, hz: number | undefined): Uint8Array | undefined {
  const { kind, data, length } = parameter;
  if (kind === undefined || isNull(data)) return undefined;
  if (kind === "string") return readCString(kernel.space, data, Math.min(length, MAX_STRING));
  const size = SIZES[kind];
  const count = kind === "bool" ? 1 : Math.min(Math.trunc(length / size), MAX_VALUES);
  const scale = scaleOf(kind, hz);
  if (count === 0 || scale === undefined) return undefined;
  const values: string[] = [];
  for (let i = 0; i < count; i++) {
    const value = numberAt(kernel, plus(data, i * size), kind);
    if (value === undefined) return undefined;
    values.push(scale === 1 ? String(value) : String(Math.trunc(Number(value) * scale)));
  }
  return Buffer.from(values.join("\t"));
}

const SIZES = {
  int: 4,
  uint: 4,
  long: 8,
  byte: 1,
  bool: 1,
  seconds: 4,
  ticks: 4,
  milliseconds: 4,
  "long milliseconds": 8,
} as const;

/** Kept in ticks of the kernel's; shown in seconds, hundredths (USER_HZ) or thousandths of them. */
function scaleOf(kind: SysctlKind, hz: number | undefined): number | undefined {
  if (kind === "seconds") return hz && 1 / hz;
  if (kind === "ticks") return hz && 100 / hz;
  if (kind === "milliseconds" || kind === "long milliseconds") return hz && 1000 / hz;
  return 1;
}

function numberAt(kernel: Kernel, at: Halves, kind: Exclude<SysctlKind, "string">): number | bigint | undefined {
  const size = SIZES[kind];
  const index = kernel.space.borrow(at.hi, at.lo, size);
  if (index < 0) return undefined;
  const { view } = kernel.memory;
  if (size === 8) return view.getBigUint64(index, true);
  if (size === 1) return view.getUint8(index);
  return kind === "uint" ? view.getUint32(index, true) : view.getInt32(index, true);
}

/** Ticks a second (CONFIG_HZ), from the clock that counts them: its `mult` is a tick's nanoseconds, shifted by 8 (kernel/time/jiffies.c). */
export function ticksPerSecond(kernel: Kernel): number | undefined {
  const place = kernel.optionalPlace(clocksourceJiffies);
  const { mult } = kernel.layout(clocksource);
  const value = place === undefined || mult < 0 ? undefined : readU32(kernel.space, place, mult);
  const hz = value ? Math.round(1e9 / (value / 256)) : 0;
  return hz >= 24 && hz <= 10_000 ? hz : undefined;
}

/**
 * What is at `data` by the function that shows it: the common ones (kernel/sysctl.c), and those of subsystems that do no
 * more than check who writes what, or act on it.
 */
const KINDS: Readonly<Record<SysctlKind, readonly string[]>> = {
  int: [
    "proc_dointvec proc_dointvec_minmax proc_dointvec_minmax_sysadmin proc_dointvec_minmax_warn_RT_change",
    "proc_dointvec_minmax_coredump proc_dointvec_minmax_bpf_enable proc_dointvec_minmax_bpf_restricted",
    "proc_ipc_dointvec_minmax_orphans proc_do_rointvec proc_do_dev_weight proc_kprobes_optimization_handler",
    "proc_watchdog proc_nmi_watchdog proc_soft_watchdog proc_watchdog_thresh yama_dointvec_minmax apparmor_dointvec",
    "bpf_unpriv_handler ftrace_enable_sysctl stack_trace_sysctl tracepoint_printk_sysctl perf_event_max_stack_handler",
    "perf_cpu_time_max_percent_handler perf_event_max_sample_rate_handler perf_proc_update_handler sched_rr_handler sched_rt_handler",
    "timer_migration_handler compaction_proactiveness_sysctl_handler dirty_background_ratio_handler dirty_ratio_handler",
    "dirty_writeback_centisecs_handler dirtytime_interval_handler min_free_kbytes_sysctl_handler",
    "sysctl_min_slab_ratio_sysctl_handler sysctl_min_unmapped_ratio_sysctl_handler overcommit_policy_handler",
    "overcommit_ratio_handler percpu_pagelist_high_fraction_sysctl_handler watermark_scale_factor_sysctl_handler",
    "ipv4_privileged_ports devinet_conf_proc devinet_sysctl_forward ipv4_doint_and_flush neigh_proc_dointvec_zero_intmax",
    "addrconf_sysctl_forward addrconf_sysctl_disable addrconf_sysctl_disable_policy addrconf_sysctl_proxy_ndp",
    "proc_ipc_sem_dointvec addrconf_sysctl_ignore_routes_with_linkdown addrconf_sysctl_mtu addrconf_sysctl_addr_gen_mode",
  ],
  uint: [
    "proc_douintvec proc_douintvec_minmax proc_dopipe_max_size proc_fib_multipath_hash_fields",
    "proc_rt6_multipath_hash_fields proc_tfo_blackhole_detect_timeout proc_blackhole_detect_timeout",
  ],
  long: [
    "proc_doulongvec_minmax proc_dohung_task_timeout_secs proc_dolongvec_minmax_bpf_restricted mmap_min_addr_handler",
    "dirty_background_bytes_handler dirty_bytes_handler overcommit_kbytes_handler",
  ],
  byte: ["proc_dou8vec_minmax ipv4_fwd_update_priority proc_fib_multipath_hash_policy proc_rt6_multipath_hash_policy"],
  bool: ["proc_dobool"],
  string: ["proc_dostring proc_dostring_coredump proc_do_uts_string devkmsg_sysctl_set_loglvl"],
  seconds: ["proc_dointvec_jiffies neigh_proc_dointvec_jiffies"],
  ticks: ["proc_dointvec_userhz_jiffies neigh_proc_dointvec_userhz_jiffies"],
  milliseconds: [
    "proc_dointvec_ms_jiffies proc_dointvec_ms_jiffies_minmax",
    "neigh_proc_dointvec_ms_jiffies neigh_proc_dointvec_ms_jiffies_positive",
  ],
  "long milliseconds": ["proc_doulongvec_ms_jiffies_minmax"],
};

const HANDLERS = new Map(
  Object.entries(KINDS).flatMap(([kind, lines]) =>
    lines.flatMap((line) => line.split(" ")).map((name) => [name, kind as SysctlKind] as const),
  ),
);
