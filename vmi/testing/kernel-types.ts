import { type BtfMember, BtfWriter, type TypeRef } from "./btf-writer.ts";
import { filesTypes } from "./files-types.ts";
import { networkTypes } from "./network-types.ts";
import { systemTypes } from "./system-types.ts";

/** Structures of a made-up kernel, in the shapes of 6.1 and of 6.13 and later, with gaps that no real kernel has. */
export type Flavour = "6.1" | "6.13";

/** A structure or union: where its members are, by dotted path as in the engine. */
export interface Aggregate extends TypeRef {
  readonly members: ReadonlyMap<string, { readonly offset: number; readonly type: TypeRef }>;
}

type Member = readonly [name: string, type: TypeRef];

export interface KernelTypes {
  readonly btf: BtfWriter;
  readonly of: Readonly<Record<string, Aggregate>>;
}

class Builder {
  readonly btf = new BtfWriter();
  readonly of: Record<string, Aggregate> = {};

  struct(name: string, ...members: readonly Member[]): Aggregate {
    return this.#aggregate(name, members, false);
  }

  union(name: string, ...members: readonly Member[]): Aggregate {
    return this.#aggregate(name, members, true);
  }

  #aggregate(name: string, members: readonly Member[], isUnion: boolean): Aggregate {
    const known = new Map<string, { offset: number; type: TypeRef }>();
    const written: BtfMember[] = [];
    let size = 0;
    let align = 1;
    for (const [member, type] of members) {
      const alignment = type.align ?? Math.max(1, Math.min(8, type.size));
      align = Math.max(align, alignment);
      const offset = isUnion ? 0 : Math.ceil(size / alignment) * alignment;
      size = Math.max(size, offset + type.size);
      written.push({ name: member, type: type.id, bits: offset * 8 });
      if (member !== "") known.set(member, { offset, type });
      const inner = "members" in type ? (type as Aggregate).members : [];
      for (const [path, found] of inner) {
        known.set(member === "" ? path : `${member}.${path}`, { offset: offset + found.offset, type: found.type });
      }
    }
    size = Math.ceil(size / align) * align;
    const ref = isUnion ? this.btf.union(name, size, written) : this.btf.struct(name, size, written);
    const aggregate = { ...ref, align, members: known };
    if (name !== "") this.of[name] = aggregate;
    return aggregate;
  }
}

export function kernelTypes(flavour: Flavour): KernelTypes {
  const old = flavour === "6.1";
  const b = new Builder();
  const u8 = b.btf.int("unsigned char", 1);
  const char = b.btf.int("char", 1);
  const s32 = b.btf.int("int", 4);
  const u16 = b.btf.int("unsigned short", 2);
  const u32 = b.btf.int("unsigned int", 4);
  const u64 = b.btf.int("long unsigned int", 8);
  const ptr = b.btf.pointer();
  const gap = (bytes: number): Member => [`gap${bytes}`, b.btf.array(u8, bytes)];
  const chars = (count: number) => b.btf.array(char, count);
  const list = b.struct("list_head", ["next", ptr], ["prev", ptr]);
  const atomicLong = b.btf.typedef("atomic_long_t", b.struct("", ["counter", u64]));
  const atomic = b.btf.typedef("atomic_t", b.struct("", ["counter", s32]));
  const kuid = b.btf.typedef("kuid_t", b.struct("", ["val", u32]));
  const path = b.struct("path", ["mnt", ptr], ["dentry", ptr]);

  const io = b.struct(
    "task_io_accounting",
    ...["rchar", "read_bytes", "write_bytes", "cancelled_write_bytes"].map((name): Member => [name, u64]),
  );
  const entity = b.struct("sched_entity", gap(40), ["sum_exec_runtime", u64]);
  // A process's signals, limits and rights: linux/signals.ts, cred.ts, pid.ts, seccomp.ts.
  const sigpending = b.struct("sigpending", ["list", list], ["signal", u64]);
  const sigaction = b.struct(
    "sigaction",
    ["sa_handler", ptr],
    ["sa_flags", u64],
    ["sa_restorer", ptr],
    ["sa_mask", u64],
  );
  b.struct("sighand_struct", gap(24), ["action", b.btf.array(b.struct("k_sigaction", ["sa", sigaction]), 64)]);
  const rlimit = b.struct("rlimit", ["rlim_cur", u64], ["rlim_max", u64]);
  const mode = b.struct("seccomp", ["mode", s32], ["filter", ptr]);
  b.struct("group_info", ["usage", atomic], ["ngroups", s32], ["gid", b.btf.array(kuid, 0)]);

  b.struct(
    "task_struct",
    gap(24),
    ["__state", u32],
    ["flags", u32],
    ["se", entity],
    gap(72),
    ["static_prio", s32],
    ["tasks", list],
    ["mm", ptr],
    ["exit_state", s32],
    gap(36),
    ["pid", s32],
    ["tgid", s32],
    ["real_parent", b.btf.qualified(18, ptr)],
    ["group_leader", ptr],
    ["thread_node", list],
    ["utime", u64],
    ["stime", u64],
    ["start_boottime", u64],
    ["thread_pid", ptr],
    ["real_cred", b.btf.qualified(10, ptr)],
    ["comm", chars(16)],
    gap(72),
    ["fs", ptr],
    ["nsproxy", ptr],
    ["signal", ptr],
    ["cgroups", ptr],
    ["files", ptr],
    ["blocked", u64],
    ["pending", sigpending],
    ["sighand", ptr],
    ["ptrace", u32],
    ["parent", ptr],
    ["atomic_flags", u64],
    ["seccomp", mode],
    ["loginuid", kuid],
    ["ioac", io],
    ["stack", ptr],
    ["children", list],
    ["sibling", list],
    ["pid_links", b.btf.array(b.struct("hlist_node", ["next", ptr], ["pprev", ptr]), 4)],
    ["cg_list", list],
    ["thread", b.struct("thread_struct", gap(24), ["sp", u64])],
    gap(208),
  );
  b.struct(
    "signal_struct",
    gap(16),
    ["nr_threads", s32],
    ["thread_head", list],
    ["pids", b.btf.array(ptr, 4)],
    ["prev_cputime", b.struct("prev_cputime", ["utime", u64], ["stime", u64])],
    ["utime", u64],
    ["stime", u64],
    ["sum_sched_runtime", u64],
    ["ioac", io],
    ["live", atomic],
    ["shared_pending", sigpending],
    ["rlim", b.btf.array(rlimit, 16)],
  );
  b.struct(
    "cred",
    gap(8),
    ...["uid", "gid", "suid", "sgid", "euid", "egid", "fsuid", "fsgid"].map((name): Member => [name, kuid]),
    ["securebits", u32],
    ...["inheritable", "permitted", "effective", "bset", "ambient"].map((name): Member => [`cap_${name}`, u64]),
    ["user_ns", ptr],
    ["group_info", ptr],
  );
  const upid = b.struct("upid", ["nr", s32], ["ns", ptr]);
  b.struct("pid", gap(4), ["level", u32], gap(16), ["tasks", b.btf.array(ptr, 4)], gap(32), [
    "numbers",
    b.btf.array(upid, 1),
  ]);
  b.struct("fs_struct", gap(24), ["root", path], ["pwd", path]);
  if (old) b.struct("mm_rss_stat", ["count", b.btf.array(atomicLong, 4)]);
  else b.struct("percpu_counter", ["lock", u32], ["count", u64], ["list", list], ["counters", ptr]);
  const rss = old ? b.of.mm_rss_stat! : b.btf.array(b.of.percpu_counter!, 4);
  const maple = b.struct("maple_tree", ["ma_lock", u32], ["ma_flags", u32], ["ma_root", ptr]);
  const mm = b.struct(
    "",
    ["mm_mt", maple],
    gap(64),
    ["pgd", b.btf.pointer(u64.id)],
    ...["total_vm", "locked_vm", "arg_start", "arg_end", "env_start", "env_end"].map((name): Member => [name, u64]),
    ["rss_stat", rss],
    ["exe_file", ptr],
    ...["start_brk", "brk", "start_stack"].map((name): Member => [name, u64]),
  );
  b.struct("mm_struct", ["", mm], ["cpu_bitmap", b.btf.array(u64, 0)]);

  b.struct(
    "nsproxy",
    gap(8),
    ...[
      "uts_ns",
      "ipc_ns",
      "mnt_ns",
      "pid_ns_for_children",
      "net_ns",
      "time_ns",
      "time_ns_for_children",
      "cgroup_ns",
    ].map((name): Member => [name, ptr]),
  );
  const common = b.struct("ns_common", ["stashed", ptr], ["ops", ptr], ["inum", u32]);
  const uts = b.struct(
    "new_utsname",
    ...["sysname", "nodename", "release", "version", "machine", "domainname"].map((name): Member => [name, chars(65)]),
  );
  b.struct("uts_namespace", ["name", uts], ["user_ns", ptr], ["ns", common]);
  b.struct("user_namespace", gap(64), ["parent", ptr], ["level", s32], ["owner", kuid], ["ns", common]);
  b.struct("time_namespace", ["user_ns", ptr], ["ns", common]);
  b.struct("ipc_namespace", gap(40), ["ns", common]);
  // From 6.8 (2eea9ce4310d) a tree of mounts; before, their number.
  const tree = b.struct("rb_root", ["rb_node", ptr]);
  if (old) b.struct("mnt_namespace", ["ns", common], ["root", ptr], ["list", list], ["mounts", u32]);
  else b.struct("mnt_namespace", ["ns", common], ["root", ptr], ["mounts", tree], ["nr_mounts", u32]);
  b.struct("cgroup_namespace", ["ns", common], ["root_cset", ptr]);

  const hlist = b.of.hlist_node!;
  const xarray = b.struct("xarray", ["xa_lock", u32], ["xa_flags", u32], ["xa_head", ptr]);
  filesTypes(b, { old, ptr, u8, u16, u32, u64, list, hlist, gap }, { path, xarray, kuid });

  const memory = old
    ? b.struct("module_layout", ["base", ptr], ["size", u32], ["text_size", u32], gap(64))
    : b.struct("module_memory", ["base", ptr], ["is_rox", u8], ["size", u32], gap(56));
  b.struct(
    "module",
    ["state", u32],
    ["list", list],
    ["name", chars(56)],
    gap(80),
    ["version", ptr],
    ["srcversion", ptr],
    ["init", ptr],
    ...(old
      ? ([
          ["core_layout", memory],
          ["init_layout", memory],
        ] as const)
      : ([["mem", b.btf.array(memory, 7)]] as const)),
    ["taints", u64],
    ["source_list", list],
    ["target_list", list],
    ["exit", ptr],
    ["refcnt", atomic],
    ...["kallsyms", "syms", "kp", "sect_attrs"].map((name): Member => [name, ptr]),
    ...["num_syms", "num_kp"].map((name): Member => [name, u32]),
  );
  b.struct("module_use", ["source_list", list], ["target_list", list], ["source", ptr], ["target", ptr]);
  b.struct(
    "resource",
    ["start", u64],
    ["end", u64],
    ["name", ptr],
    ["flags", u64],
    ["desc", u64],
    ...["parent", "sibling", "child"].map((name): Member => [name, ptr]),
  );
  b.struct("xa_node", ["shift", u8], ["offset", u8], ["count", u8], gap(37), ["slots", b.btf.array(ptr, 64)]);
  const idr = b.struct("idr", ["idr_rt", xarray], ["idr_base", u32], ["idr_next", u32]);
  b.struct("pid_namespace", ["idr", idr], ["level", u32], ["ns", common]);
  b.struct("slab", ["flags", u64], ["slab_cache", ptr], gap(16), ["freelist", ptr], ["inuse", u32], gap(16));
  b.struct(
    "kmem_cache",
    ["cpu_slab", ptr],
    ["flags", u64],
    ["size", u32],
    ["offset", u32],
    ["random", u64],
    ["red_left_pad", u32],
  );
  const base = b.struct(
    "tk_read_base",
    ["clock", ptr],
    ["mask", u64],
    ["mult", u32],
    ["shift", u32],
    ["xtime_nsec", u64],
    ["base", u64],
  );
  const keeper = b.struct(
    "timekeeper",
    ["tkr_mono", base],
    ["xtime_sec", u64],
    ["offs_real", u64],
    ["offs_boot", u64],
    ["offs_tai", u64],
  );
  b.struct(old ? "" : "tk_data", ["seq", u32], ["timekeeper", keeper]);
  // What looks on: linux/bpf.ts, kprobe.ts, ftrace.ts, tracepoint.ts, uprobe.ts.
  const pointers = (...names: string[]) => names.map((name): Member => [name, ptr]);
  const words = (...names: string[]) => names.map((name): Member => [name, u32]);
  b.struct("user_struct", gap(40), ["uid", kuid]);
  b.struct("btf", gap(24), ["name", chars(56)]);
  b.struct(
    "bpf_prog",
    ["jited", u32],
    ...words("type", "len", "jited_len"),
    ["tag", chars(8)],
    ...pointers("bpf_func", "aux"),
  );
  b.struct(
    "bpf_prog_aux",
    ...words("used_map_cnt", "id", "func_cnt", ...(old ? [] : ["verified_insns"])),
    ...pointers("used_maps", "func", "prog", "user", "attach_func_name", "attach_btf"),
    ["load_time", u64],
    ["name", chars(16)],
  );
  b.struct(
    "bpf_map",
    gap(24),
    ...words("map_type", "key_size", "value_size", "max_entries", "map_flags", "id"),
    ["name", chars(16)],
    ["frozen", u32],
  );
  const link = b.struct("bpf_link", gap(8), ...words("id", "type"), ["prog", ptr]);
  b.struct("bpf_raw_tp_link", ["link", link], ["btp", ptr], ...(old ? [] : [["cookie", u64] as const]));
  b.struct("bpf_raw_event_map", ["tp", ptr]);
  const kprobe = b.struct(
    "kprobe",
    ["hlist", hlist],
    ["list", list],
    ["nmissed", u64],
    ...pointers("addr", "pre_handler", "post_handler"),
    ["flags", u32],
  );
  b.struct("kretprobe", ["kp", kprobe], ["handler", ptr]);
  b.struct("ftrace_ops", ...pointers("func", "next"), ["flags", u64], ...pointers("func_hash", "trampoline"));
  b.struct("ftrace_ops_hash", ...pointers("notrace_hash", "filter_hash"));
  b.struct("ftrace_hash", ["size_bits", u64], ["buckets", ptr], ["count", u64]);
  b.struct("ftrace_func_entry", ["hlist", hlist], ["ip", u64]);
  b.struct("tracepoint", ...pointers("name", "iterator", "funcs"));
  b.struct("tracepoint_func", ...pointers("func", "data"), ["prio", s32]);
  b.struct("uprobe", ["rb_node", b.btf.array(u64, 3)], ["inode", ptr], ["offset", u64], ["consumers", list]);
  b.struct("uprobe_consumer", ...pointers("handler", "ret_handler"), old ? ["next", ptr] : ["cons_node", list]);
  // What modules say of themselves, and what the kernel calls: linux/module-*.ts, notifiers.ts, timers.ts, workqueue.ts.
  b.struct("mod_kallsyms", ["symtab", ptr], ["num_symtab", u32], ...pointers("strtab", "typetab"));
  b.struct("kernel_symbol", ["value_offset", s32], ["name_offset", s32], ["namespace_offset", s32]);
  const attribute = b.struct("attribute", ["name", ptr], ["mode", u32]);
  const bin = b.struct("bin_attribute", ["attr", attribute], ["size", u64], ["private", ptr], gap(32));
  const group = b.struct("attribute_group", ...pointers("name", "is_visible", "attrs", "bin_attrs"));
  if (old) {
    const section = b.struct("module_sect_attr", ["battr", bin], ["address", u64]);
    b.struct("module_sect_attrs", ["grp", group], ["nsections", u32], ["attrs", b.btf.array(section, 0)]);
  } else b.struct("module_sect_attrs", ["grp", group], ["attrs", b.btf.array(bin, 0)]);
  b.struct(
    "kernel_param",
    ...pointers("name", "mod", "ops"),
    ["perm", u16],
    ["level", u8],
    ["flags", u8],
    ["arg", ptr],
  );
  b.struct("kparam_array", ...words("max", "elemsize"), ...pointers("num", "ops", "elem"));
  b.struct("kparam_string", ["maxlen", u32], ["string", ptr]);
  b.struct("notifier_block", ...pointers("notifier_call", "next"), ["priority", s32]);
  b.struct("raw_notifier_head", ["head", ptr]);
  b.struct("blocking_notifier_head", gap(40), ["head", ptr]);
  const timer = b.struct("timer_list", ["entry", hlist], ["expires", u64], ["function", ptr], ["flags", u32]);
  b.struct("timer_base", gap(24), ["pending_map", b.btf.array(u64, 9)], ["vectors", b.btf.array(ptr, 576)]);
  const work = b.struct("work_struct", ["data", atomicLong], ["entry", list], ["func", ptr]);
  b.struct("delayed_work", ["work", work], ["timer", timer], ["wq", ptr]);
  const node = b.struct("timerqueue_node", ["node", b.btf.array(u64, 3)], ["expires", u64]);
  b.struct("hrtimer", ["node", node], ["_softexpires", u64], ["function", ptr]);
  const root = b.struct("rb_root_cached", ["rb_root", ptr], ["rb_leftmost", ptr]);
  const queue = b.struct("timerqueue_head", ["rb_root", root]);
  const clock = b.struct("hrtimer_clock_base", ["cpu_base", ptr], ["index", u32], ["clockid", s32], ["active", queue]);
  b.struct("hrtimer_cpu_base", gap(64), ["clock_base", b.btf.array(clock, 8)]);
  b.struct(
    "workqueue_struct",
    ["pwqs", list],
    ["list", list],
    gap(100),
    ["name", chars(old ? 24 : 32)],
    ["flags", u32],
  );
  b.struct("pool_workqueue", ...pointers("pool", "wq"), gap(100), ["inactive_works", list], ["pwqs_node", list]);

  const primitives = { old, ptr, u8, u16, u32, u64, list, hlist, gap };
  networkTypes(b, primitives);
  systemTypes(b, primitives);
  return { btf: b.btf, of: b.of };
}
