import { PAGE_SIZE } from "../bytes/address.ts";
import { type MiniKernel, Thing } from "./mini-kernel.ts";
import { PageTableWriter } from "./page-table-writer.ts";

/** Puts tasks, modules and resources into a made-up kernel, linked as the kernel links its own. */

export interface TaskSpec {
  readonly pid: number;
  readonly comm: string;
  readonly parent?: Thing;
  readonly state?: number;
  readonly exitState?: number;
  readonly ids?: readonly [uid: number, gid: number, suid: number, sgid: number, euid: number, egid: number];
  /** Seconds since boot. */
  readonly started?: number;
  readonly nice?: number;
  /** By its parent. */
  readonly traced?: boolean;
  /** Without one it is a kernel thread. */
  readonly memory?: MemorySpec;
}

export interface MemorySpec {
  readonly exe?: Thing;
  readonly args?: string;
  readonly env?: string;
  /** Pages in files, anonymous, in swap, shared. */
  readonly resident?: readonly [number, number, number, number];
  /** Pages. */
  readonly total?: number;
}

export interface Process {
  readonly task: Thing;
  readonly signal: Thing;
  readonly mm: Thing | undefined;
  readonly cred: Thing;
  readonly tables: PageTableWriter | undefined;
}

const PF_KTHREAD = 0x20_0000;
const UNSET = 0xffff_ffff;
/** Where the arguments begin: their last bytes lie in another page than the environment. */
export const ARGUMENTS = 0x7ffc_0000_0f80n;

export function addProcess(kernel: MiniKernel, spec: TaskSpec): Process {
  const signal = kernel.make("signal_struct").set("nr_threads", 0);
  kernel.emptyList(signal.at("thread_head"));
  const cred = kernel.make("cred").set("user_ns", kernel.userNamespace.va);
  const names = ["uid", "gid", "suid", "sgid", "euid", "egid"];
  names.forEach((name, i) => {
    cred.set(name, spec.ids?.[i] ?? 0);
  });
  addRights(kernel, signal, cred);
  const memory = spec.memory && makeMemory(kernel, spec.memory);
  const process = { signal, mm: memory?.mm, cred, tables: memory?.tables };
  const task = addThread(kernel, { ...process, task: kernel.initTask }, spec);
  task.set("tgid", spec.pid).set("group_leader", task.va);
  // PIDTYPE_PGID: it leads its process group.
  kernel.writeInteger(signal.at("pids") + 16n, kernel.readPointer(task.at("thread_pid")), 8);
  kernel.listAdd(kernel.initTask.at("tasks"), task.at("tasks"));
  return { ...process, task };
}

/** A thread of a process: on its list, not on the list of tasks. */
export function addThread(kernel: MiniKernel, process: Process, spec: TaskSpec): Thing {
  const { signal, mm, cred } = process;
  const task = kernel.make("task_struct");
  const numbers = kernel.make("pid");
  const { members } = kernel.types.of.upid!;
  kernel.writeInteger(numbers.at("numbers") + BigInt(members.get("nr")!.offset), spec.pid, 4);
  kernel.writeInteger(numbers.at("numbers") + BigInt(members.get("ns")!.offset), kernel.pidNamespace.va, 8);
  task.setAll({
    pid: spec.pid,
    thread_pid: numbers.va,
    tgid: Number(kernel.readPointer(process.task.at("tgid")) & 0xffff_ffffn),
    comm: Buffer.from(`${spec.comm}\0`, "latin1").subarray(0, 16),
    __state: spec.state ?? 1,
    exit_state: spec.exitState ?? 0,
    flags: mm === undefined ? PF_KTHREAD : 0x40_0000,
    static_prio: 120 + (spec.nice ?? 0),
    real_parent: (spec.parent ?? kernel.initTask).va,
    group_leader: process.task.va,
    real_cred: cred.va,
    mm: mm?.va ?? 0n,
    signal: signal.va,
    start_boottime: BigInt(spec.started ?? 0) * 1_000_000_000n,
    parent: (spec.parent ?? kernel.initTask).va,
    // A real-time signal is blocked, and the first of all waits.
    blocked: 1n << 39n,
    "pending.signal": 1,
    sighand: makeHandlers(kernel).va,
    ptrace: spec.traced ? 1 : 0,
    "seccomp.mode": 2,
    loginuid: UNSET,
  });
  kernel.emptyList(task.at("children"));
  kernel.listAdd(signal.at("thread_head"), task.at("thread_node"));
  const threads = kernel.readPointer(signal.at("nr_threads")) & 0xffff_ffffn;
  signal.set("nr_threads", threads + 1n);
  return task;
}

/** A user namespace, groups, capabilities and limits. */
function addRights(kernel: MiniKernel, signal: Thing, cred: Thing): void {
  const groups = new Thing(kernel, kernel.types.of.group_info!, kernel.allocate(kernel.types.of.group_info!.size + 8));
  groups.set("ngroups", 2);
  [27, 1000].forEach((gid, i) => {
    kernel.writeInteger(groups.at("gid") + BigInt(i * 4), gid, 4);
  });
  const user = kernel.make("user_namespace").set("ns.inum", 4026531837);
  cred.setAll({ user_ns: user.va, group_info: groups.va, cap_effective: 0x2400, cap_permitted: 0x2400 });
  signal.setAll({ live: 1, "shared_pending.signal": 2 });
  for (let i = 0; i < 32; i++) kernel.writeInteger(signal.at("rlim") + BigInt(i * 8), i % 4 === 0 ? -1n : i * 1024, 8);
}

/** SIGHUP is ignored, SIGUSR1 handled. */
function makeHandlers(kernel: MiniKernel): Thing {
  const handlers = kernel.make("sighand_struct");
  const { size } = kernel.types.of.k_sigaction!;
  kernel.writeInteger(handlers.at("action"), 1, 8);
  kernel.writeInteger(handlers.at("action") + BigInt(9 * size), 0x40_1000, 8);
  return handlers;
}

function makeMemory(kernel: MiniKernel, spec: MemorySpec): { mm: Thing; tables: PageTableWriter } {
  const { ram, options } = kernel;
  const tables = new PageTableWriter(ram, options.mmu, { smeMask: options.smeMask });
  const args = Buffer.from(spec.args ?? "", "latin1");
  const env = Buffer.from(spec.env ?? "", "latin1");
  const bytes = Buffer.concat([args, env]);
  const first = ARGUMENTS & -BigInt(PAGE_SIZE);
  const offset = Number(ARGUMENTS - first);
  for (let done = 0; done < offset + bytes.length; done += PAGE_SIZE) {
    const gpa = ram.take();
    tables.map(first + BigInt(done), gpa, { user: true });
    const from = Math.max(0, done - offset);
    ram.bytes.set(bytes.subarray(from, done + PAGE_SIZE - offset), gpa + (done === 0 ? offset : 0));
  }
  const argEnd = ARGUMENTS + BigInt(args.length);
  const mm = kernel.make("mm_struct");
  mm.setAll({
    pgd: kernel.directMap + BigInt(tables.pgd),
    total_vm: spec.total ?? 0,
    arg_start: ARGUMENTS,
    arg_end: argEnd,
    env_start: argEnd,
    env_end: argEnd + BigInt(env.length),
    exe_file: spec.exe?.va ?? 0n,
  });
  const counter = kernel.types.of.percpu_counter;
  spec.resident?.forEach((pages, i) => {
    const at = counter ? i * counter.size + counter.members.get("count")!.offset : i * 8;
    kernel.writeInteger(mm.at("rss_stat") + BigInt(at), pages, 8);
  });
  return { mm, tables };
}

export interface ModuleSpec {
  readonly name: string;
  readonly state?: number;
  readonly text?: bigint;
  /** Bytes of each of its kinds of memory, at most seven; before 6.4 at most two. */
  readonly sizes?: readonly number[];
  readonly taints?: number;
  readonly version?: string;
  readonly references?: number;
  readonly permanent?: boolean;
  readonly users?: readonly Thing[];
}

export function addModule(kernel: MiniKernel, spec: ModuleSpec): Thing {
  const { of } = kernel.types;
  const module = kernel.makeScattered("module");
  module.setAll({
    state: spec.state ?? 0,
    name: Buffer.from(spec.name),
    version: spec.version === undefined ? 0n : kernel.string(spec.version),
    init: 0x1000,
    exit: spec.permanent ? 0 : 0x1000,
    taints: spec.taints ?? 0,
    refcnt: (spec.references ?? 0) + 1,
  });
  const memory = of.module_memory ?? of.module_layout!;
  const start = module.at(of.module_memory ? "mem" : "core_layout");
  [...(spec.sizes ?? [])].forEach((size, i) => {
    const at = start + BigInt(i * memory.size);
    if (i === 0) kernel.writeInteger(at + BigInt(memory.members.get("base")!.offset), spec.text ?? 0, 8);
    kernel.writeInteger(at + BigInt(memory.members.get("size")!.offset), size, 4);
  });
  kernel.emptyList(module.at("source_list"));
  for (const user of spec.users ?? []) {
    const use = kernel.make("module_use").setAll({ source: user.va, target: module.va });
    kernel.listAdd(module.at("source_list"), use.at("source_list"));
  }
  kernel.listAdd(kernel.modules, module.at("list"));
  return module;
}

/** The last child of a resource. */
export function addResource(kernel: MiniKernel, parent: Thing, name: string, start: bigint, end: bigint): Thing {
  const resource = kernel.make("resource").setAll({ start, end, name: kernel.string(name), parent: parent.va });
  let link = parent.at("child");
  for (let next = kernel.readPointer(link); next !== 0n; next = kernel.readPointer(link)) {
    link = next + BigInt(resource.type.members.get("sibling")!.offset);
  }
  kernel.writeInteger(link, resource.va, 8);
  return resource;
}
