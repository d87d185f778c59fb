import { type MiniKernel, Thing } from "./mini-kernel.ts";

/** What a made-up guest has beside processes and files: a log, CPUs, parameters, works, packet hooks, system calls, cgroups. */
export interface MiniSystem {
  readonly log: Thing;
  readonly directory: Thing;
  readonly pool: Thing;
  readonly cgroup: Thing;
  readonly hooks: Thing;
}

const S_IFDIR = 0o040_555;
const RDT = 0o100_644;
const FINALIZED = 2n << 62n;
const MASK = (1n << 62n) - 1n;

export function addSystem(kernel: MiniKernel, net: Thing, callback: bigint): MiniSystem {
  addCpu(kernel);
  addSyscalls(kernel);
  const entry = {
    log: addLog(kernel, ["Linux version", "mini: started"]),
    directory: addParameters(kernel),
    pool: addWorks(kernel, callback),
    cgroup: addCgroups(kernel),
    hooks: addPacketHooks(kernel, net, callback),
  };
  return entry;
}

/** Records as the kernel leaves them: descriptors in turn, and texts behind their ids. */
function addLog(kernel: MiniKernel, texts: readonly string[]): Thing {
  const { prb_desc: desc, printk_info: info } = kernel.types.of;
  const [countBits, sizeBits] = [3, 10];
  const descs = kernel.allocate(desc!.size << countBits);
  const infos = kernel.allocate(info!.size << countBits);
  const data = kernel.allocate(1 << sizeBits);
  let position = 0n;
  // The ids begin so that the first round is over at once.
  const first = -BigInt(1 << countBits) & MASK;
  texts.forEach((text, i) => {
    const id = (first + BigInt(i)) & MASK;
    const begin = position;
    kernel.writeInteger(data + begin, id, 8);
    kernel.write(data + begin + 8n, Buffer.from(text));
    position += BigInt(8 + Math.ceil(text.length / 8) * 8);
    new Thing(kernel, desc!, descs + BigInt(i * desc!.size)).setAll({
      state_var: id | FINALIZED,
      "text_blk_lpos.begin": begin,
      "text_blk_lpos.next": position,
    });
    new Thing(kernel, info!, infos + BigInt(i * info!.size)).setAll({
      seq: i,
      ts_nsec: 1000 * i,
      text_len: text.length,
      bits: 6 << 5,
      "dev_info.subsystem": Buffer.from("pci\0"),
      "dev_info.device": Buffer.from("+pci:0000:00:01.0\0"),
    });
  });
  const ring = kernel.make("printk_ringbuffer").setAll({
    "desc_ring.count_bits": countBits,
    "desc_ring.descs": descs,
    "desc_ring.infos": infos,
    "desc_ring.tail_id": first,
    "desc_ring.head_id": (first + BigInt(texts.length - 1)) & MASK,
    "text_data_ring.size_bits": sizeBits,
    "text_data_ring.data": data,
  });
  kernel.writeInteger(kernel.image("prb", 8), ring.va, 8);
  return ring;
}

function addCpu(kernel: MiniKernel): void {
  const cpu = kernel.global("boot_cpu_data", "cpuinfo_x86").setAll({
    x86: 6,
    x86_model: 85,
    x86_stepping: 4,
    x86_virt_bits: 48,
    x86_phys_bits: 40,
    x86_vendor_id: Buffer.from("GenuineMini\0"),
    x86_model_id: Buffer.from("Mini CPU @ 1.00GHz\0"),
    x86_cache_size: 16_384,
    booted_cores: 1,
    loops_per_jiffy: 4_000_000,
  });
  kernel.writeInteger(cpu.at("x86_capability"), 0x0000_0201, 4);
  kernel.writeInteger(kernel.image("cpu_khz", 4), 1_000_000, 4);
}

/** A directory with parameters, below the root: two of their table's own variables, two of their functions'. */
function addParameters(kernel: MiniKernel): Thing {
  const functions = ["proc_dointvec", "proc_dostring", "sysrq_sysctl_handler", "proc_taint"];
  const [int, text, sysrq, taint] = functions.map((name) => kernel.image(name, 32, "t"));
  const value = kernel.allocate(8);
  kernel.writeInteger(value, 42, 4);
  kernel.writeInteger(kernel.image("sysrq_enabled", 4, "D"), 438, 4);
  kernel.image("sysrq_always_enabled", 4, "D");
  kernel.writeInteger(kernel.image("tainted_mask", 8, "B"), 4097, 8);
  const directory = kernel.make("ctl_dir");
  const top = kernel.global("sysctl_table_root", "ctl_table_root");
  const root = new Thing(kernel, kernel.types.of.ctl_dir!, top.at("default_set.dir"));
  addEntries(kernel, root, directory, [["kernel", 0n, 0, S_IFDIR, 0n]]);
  addEntries(kernel, directory, kernel.make("ctl_table_header"), [
    ["answer", value, 4, RDT, int!],
    ["name", kernel.string("mini"), 64, RDT, text!],
    ["sysrq", 0n, 4, RDT, sysrq!],
    ["tainted", 0n, 8, RDT, taint!],
  ]);
  return directory;
}

/** The entries of a table hang to the right of one another in the directory's tree; each has a node in an array beside it. */
function addEntries(
  kernel: MiniKernel,
  directory: Thing,
  header: Thing,
  entries: readonly (readonly [name: string, data: bigint, length: number, mode: number, handler: bigint])[],
): void {
  const { ctl_table: table, ctl_node: node } = kernel.types.of;
  const tables = kernel.allocate(table!.size * entries.length);
  const nodes = kernel.allocate(node!.size * entries.length);
  const path = header.type.members.has("header.node") ? "header." : "";
  header.setAll({ [`${path}ctl_table`]: tables, [`${path}node`]: nodes });
  let [link, above] = [directory.at("root.rb_node"), 0n];
  entries.forEach(([name, data, maxlen, mode, handler], i) => {
    const own = new Thing(kernel, table!, tables + BigInt(i * table!.size));
    own.setAll({ procname: kernel.string(name), data, maxlen, mode, proc_handler: handler });
    const at = new Thing(kernel, node!, nodes + BigInt(i * node!.size)).set("header", header.va);
    kernel.writeInteger(link, at.at("node"), 8);
    kernel.writeInteger(at.at("node"), above | 1n, 8);
    [link, above] = [at.at("node") + 8n, at.at("node")];
  });
}

/** A pool with a worker at a work, one that waits, and one that its workqueue holds back. */
function addWorks(kernel: MiniKernel, called: bigint): Thing {
  const list = kernel.symbol("workqueues");
  const queue = kernel.make("workqueue_struct").setAll({ name: Buffer.from("mini_wq\0"), flags: 2 });
  kernel.listAdd(list, queue.at("list"));
  // Below its lowest bits a work's data has flags.
  const pwqAt = (kernel.allocate(kernel.types.of.pool_workqueue!.size + 256) + 0xffn) & ~0xffn;
  const pwq = new Thing(kernel, kernel.types.of.pool_workqueue!, pwqAt).set("wq", queue.va);
  for (const head of [queue.at("pwqs"), pwq.at("inactive_works")]) kernel.emptyList(head);
  kernel.listAdd(queue.at("pwqs"), pwq.at("pwqs_node"));
  const work = () => kernel.make("work_struct").setAll({ func: called, data: pwqAt | 5n });
  const pool = kernel.make("worker_pool").set("cpu", 0);
  for (const head of [pool.at("worklist"), pool.at("workers")]) kernel.emptyList(head);
  kernel.listAdd(pool.at("worklist"), work().at("entry"));
  kernel.listAdd(pwq.at("inactive_works"), work().at("entry"));
  const worker = kernel.make("worker").setAll({ current_work: work().va, current_func: called, current_pwq: pwq.va });
  kernel.listAdd(pool.at("workers"), worker.at("node"));
  const idr = kernel.global("worker_pool_idr", "idr");
  const node = kernel.make("xa_node");
  kernel.writeInteger(node.at("slots"), pool.va, 8);
  idr.set("idr_rt.xa_head", node.va | 2n);
  return pool;
}

function addCgroups(kernel: MiniKernel): Thing {
  const root = kernel.global("cgrp_dfl_root", "cgroup_root").set("subsys_mask", 1);
  const controller = kernel.make("cgroup_subsys").set("name", kernel.string("pids"));
  kernel.writeInteger(kernel.image("cgroup_subsys", 8), controller.va, 8);
  const top = new Thing(kernel, kernel.types.of.cgroup!, root.at("cgrp"));
  const below = kernel.make("cgroup");
  const names = { [String(top.va)]: "", [String(below.va)]: "mini.slice" };
  [top, below].forEach((group, i) => {
    const kn = kernel.make("kernfs_node").setAll({ name: kernel.string(names[String(group.va)]!), id: i + 1 });
    group.setAll({ "self.flags": 2, kn: kn.va, subtree_control: 1, dom_cgrp: group.va });
    kernel.emptyList(group.at("self.children"));
  });
  kernel.listAdd(top.at("self.children"), below.at("self.sibling"));
  return below;
}

/** One function that sees all packets that arrive, and behind it what was registered. */
function addPacketHooks(kernel: MiniKernel, net: Thing, hook: bigint): Thing {
  const ops = kernel.make("nf_hook_ops").setAll({ hook, priv: 7, pf: 2, priority: -100 });
  const { nf_hook_entry: entry, nf_hook_entries: entries } = kernel.types.of;
  const array = new Thing(kernel, entries!, kernel.allocate(entries!.size + entry!.size + 8)).set(
    "num_hook_entries",
    1,
  );
  new Thing(kernel, entry!, array.at("hooks")).setAll({ hook, priv: 7 });
  kernel.writeInteger(array.at("hooks") + BigInt(entry!.size), ops.va, 8);
  net.set("nf.hooks_ipv4", array.va);
  return array;
}

function addSyscalls(kernel: MiniKernel): void {
  const functions = ["read", "write", "open"].map((name) => kernel.image(`__x64_sys_${name}`, 32, "T"));
  const none = kernel.image("__x64_sys_ni_syscall", 32, "T");
  const table = kernel.image("sys_call_table", 16 * 8, "R");
  for (let number = 0; number < 16; number++) {
    kernel.writeInteger(table + BigInt(number * 8), functions[number] ?? none, 8);
  }
  kernel.image("sys_call_table_end", 8, "R");
}
