import type { MiniKernel, Thing } from "./mini-kernel.ts";

/** What looks on in a made-up kernel: BPF, kprobes, function tracing, a probed tracepoint, uprobes. */
export interface MiniTracing {
  readonly program: Thing;
  readonly aggregate: Thing;
  readonly children: readonly Thing[];
  readonly alone: Thing;
  readonly ops: readonly Thing[];
  readonly hash: Thing;
  readonly tracepoint: Thing;
  readonly uprobe: Thing;
}

/** Where the probes and handlers of the made-up kernel are; nothing is there. */
const MINI_CODE = 0xffff_ffff_b000_0000n;

export function addTracing(kernel: MiniKernel): MiniTracing {
  return { ...addBpf(kernel), ...addKprobes(kernel), ...addFtrace(kernel), ...addProbes(kernel) };
}

function singleIdr(kernel: MiniKernel, symbol: string, id: number, entry: bigint): void {
  const idr = kernel.global(symbol, "idr");
  const node = kernel.make("xa_node");
  kernel.writeInteger(node.at("slots") + BigInt(id * 8), entry, 8);
  idr.set("idr_rt.xa_head", node.va | 2n);
}

function addBpf(kernel: MiniKernel): Pick<MiniTracing, "program"> {
  const map = kernel
    .make("bpf_map")
    .setAll({ id: 5, map_type: 2, key_size: 4, value_size: 16, max_entries: 8, map_flags: 128 });
  map.setAll({ name: Buffer.from("mini_map"), frozen: 1 });
  singleIdr(kernel, "map_idr", 5, map.va);
  const maps = kernel.allocate(8);
  kernel.writeInteger(maps, map.va, 8);
  const program = kernel.make("bpf_prog");
  const aux = kernel.make("bpf_prog_aux").setAll({
    id: 7,
    prog: program.va,
    used_map_cnt: 1,
    used_maps: maps,
    load_time: 5_000_000_000n,
    user: kernel.make("user_struct").set("uid", 1000).va,
    attach_func_name: kernel.string("vfs_read"),
    attach_btf: kernel.make("btf").set("name", Buffer.from("vmlinux")).va,
    name: Buffer.from("mini_program"),
  });
  program.setAll({ jited: 0x1_0001, type: 26, len: 3, jited_len: 40, bpf_func: MINI_CODE, aux: aux.va });
  program.set("tag", Buffer.from("0102030405060708", "hex"));
  singleIdr(kernel, "prog_idr", 7, program.va);
  singleIdr(kernel, "link_idr", 2, kernel.make("bpf_link").setAll({ id: 2, type: 2, prog: program.va }).va);
  return { program };
}

function addKprobes(kernel: MiniKernel): Pick<MiniTracing, "aggregate" | "children" | "alone"> {
  const table = kernel.image("kprobe_table", 64 * 8, "b");
  const aggregateHandler = kernel.image("aggr_pre_handler", 16, "t");
  const returnHandler = kernel.image("pre_handler_kretprobe", 16, "t");
  const insert = (bucket: number, probe: Thing) => {
    const head = table + BigInt(bucket * 8);
    kernel.writeInteger(head, probe.at("hlist.next"), 8);
    probe.set("hlist.pprev", head);
  };
  const alone = kernel
    .make("kprobe")
    .setAll({ addr: MINI_CODE + 64n, pre_handler: MINI_CODE + 512n, flags: 2, nmissed: 3 });
  kernel.emptyList(alone.at("list"));
  insert(3, alone);
  const aggregate = kernel.make("kprobe").setAll({ addr: MINI_CODE + 128n, pre_handler: aggregateHandler, flags: 4 });
  kernel.emptyList(aggregate.at("list"));
  insert(60, aggregate);
  const entry = kernel.make("kprobe").setAll({ addr: MINI_CODE + 128n, post_handler: MINI_CODE + 512n });
  const back = kernel
    .make("kretprobe")
    .setAll({ "kp.addr": MINI_CODE + 128n, "kp.pre_handler": returnHandler, handler: MINI_CODE });
  for (const child of [entry.at("list"), back.at("kp.list")]) kernel.listAdd(aggregate.at("list"), child);
  return { aggregate, alone, children: [entry, back] };
}

function addFtrace(kernel: MiniKernel): Pick<MiniTracing, "ops" | "hash"> {
  const end = kernel.global("ftrace_list_end", "ftrace_ops");
  const buckets = kernel.allocate(2 * 8);
  const hash = kernel.make("ftrace_hash").setAll({ size_bits: 1, buckets, count: 1 });
  const entry = kernel.make("ftrace_func_entry").setAll({ ip: MINI_CODE + 256n, "hlist.pprev": buckets + 8n });
  kernel.writeInteger(buckets + 8n, entry.at("hlist.next"), 8);
  const hashes = kernel.make("ftrace_ops_hash").set("filter_hash", hash.va);
  const last = kernel
    .make("ftrace_ops")
    .setAll({ func: MINI_CODE, next: end.va, flags: 0x1_1001, func_hash: hashes.va });
  const all = kernel.make("ftrace_ops_hash").va;
  const first = kernel
    .make("ftrace_ops")
    .setAll({ func: MINI_CODE + 16n, next: last.va, flags: 0x2003, func_hash: all });
  first.set("trampoline", MINI_CODE + 1024n);
  kernel.writeInteger(kernel.image("ftrace_ops_list", 8), first.va, 8);
  return { ops: [first, last], hash };
}

function addProbes(kernel: MiniKernel): Pick<MiniTracing, "tracepoint" | "uprobe"> {
  const tracepoint = kernel.global("__tracepoint_mini", "tracepoint");
  const idle = kernel.global("__tracepoint_idle", "tracepoint");
  idle.set("name", kernel.string("mini_idle"));
  const { size, members } = kernel.types.of.tracepoint_func!;
  const funcs = kernel.allocate(size * 3);
  [10, -1].forEach((priority, i) => {
    const at = funcs + BigInt(i * size);
    kernel.writeInteger(at, MINI_CODE + BigInt(i * 16), 8);
    kernel.writeInteger(at + BigInt(members.get("data")!.offset), 0x1234, 8);
    kernel.writeInteger(at + BigInt(members.get("prio")!.offset), priority, 4);
  });
  tracepoint.setAll({ name: kernel.string("mini_event"), funcs });
  const pointers = kernel.image("__start___tracepoints_ptrs", 8, "D", 8);
  kernel.image("__stop___tracepoints_ptrs", 0, "D", 8);
  [idle, tracepoint].forEach(({ va }, i) => {
    const at = pointers + BigInt(i * 4);
    kernel.writeInteger(at, va - at, 4);
  });

  const uprobe = kernel.make("uprobe").set("offset", 0x1010);
  const root = kernel.image("uprobes_tree", 8, "b");
  kernel.writeInteger(root, uprobe.at("rb_node"), 8);
  kernel.writeInteger(uprobe.at("rb_node"), 1, 8);
  const consumer = kernel.make("uprobe_consumer").set("handler", MINI_CODE);
  if (kernel.options.flavour === "6.1") uprobe.set("consumers.next", consumer.va);
  else {
    kernel.emptyList(uprobe.at("consumers"));
    kernel.listAdd(uprobe.at("consumers"), consumer.at("cons_node"));
  }
  return { tracepoint, uprobe };
}
