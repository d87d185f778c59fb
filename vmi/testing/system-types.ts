import type { Builder, Member, Primitives } from "./network-types.ts";

/** Structures of a made-up kernel's log, CPUs, parameters, works and packet hooks: linux/printk.ts, cpu-info.ts, sysctl.ts, workqueue.ts, netfilter.ts. */
export function systemTypes(b: Builder, { old, ptr, u8, u16, u32, u64, list, gap }: Primitives): void {
  const array = b.btf.array.bind(b.btf);
  const pointers = (...names: string[]) => names.map((name): Member => [name, ptr]);
  const numbers = (...names: string[]) => names.map((name): Member => [name, u64]);

  const position = b.struct("prb_data_blk_lpos", ...numbers("begin", "next"));
  b.struct("prb_desc", ["state_var", u64], ["text_blk_lpos", position]);
  const device = b.struct("dev_printk_info", ["subsystem", array(u8, 16)], ["device", array(u8, 48)]);
  b.struct(
    "printk_info",
    ...numbers("seq", "ts_nsec"),
    ["text_len", u16],
    ["facility", u8],
    // `flags:5, level:3`
    ["bits", u8],
    ["caller_id", u32],
    ["dev_info", device],
  );
  const descriptors = b.struct(
    "prb_desc_ring",
    ["count_bits", u32],
    ...pointers("descs", "infos"),
    ...numbers("head_id", "tail_id"),
  );
  const data = b.struct("prb_data_ring", ["size_bits", u32], ["data", ptr], ...numbers("head_lpos", "tail_lpos"));
  b.struct("printk_ringbuffer", ["desc_ring", descriptors], ["text_data_ring", data], ["fail", u64]);

  const topology = b.struct("cpuinfo_topology", ["apicid", u32], ["pkg_id", u32], ["core_id", u32]);
  b.struct(
    "cpuinfo_x86",
    ...["x86", "x86_vendor", "x86_model", "x86_stepping", "x86_virt_bits", "x86_phys_bits"].map(
      (name): Member => [name, u8],
    ),
    ["x86_capability", array(u32, 24)],
    ["x86_vendor_id", array(u8, 16)],
    ["x86_model_id", array(u8, 64)],
    ["x86_cache_size", u32],
    ["booted_cores", u16],
    ["microcode", u32],
    ["loops_per_jiffy", u64],
    // From 6.7 (02fb601d27a7) in a structure of their own.
    ...(old
      ? ["phys_proc_id", "cpu_core_id", "apicid"].map((name): Member => [name, u16])
      : [["topo", topology] as const]),
  );

  b.struct("ctl_table", ...pointers("procname", "data"), ["maxlen", u32], ["mode", u16], ["proc_handler", ptr]);
  const header = b.struct("ctl_table_header", ["ctl_table", ptr], ["used", u32], ["node", ptr]);
  b.struct("ctl_node", ["node", array(u64, 3)], ["header", ptr]);
  const directory = b.struct("ctl_dir", ["header", header], ["root", b.struct("", ["rb_node", ptr])]);
  const set = b.struct("ctl_table_set", ["is_seen", ptr], ["dir", directory]);
  b.struct("ctl_table_root", ["default_set", set]);

  b.struct("worker_pool", gap(4), ["cpu", u32], ["worklist", list], ["workers", list]);
  b.struct("worker", ["node", list], ...pointers("current_work", "current_func", "current_pwq"));

  const entry = b.struct("nf_hook_entry", ...pointers("hook", "priv"));
  b.struct("nf_hook_entries", ["num_hook_entries", u16], ["hooks", array(entry, 0)]);
  b.struct("nf_hook_ops", ...pointers("hook", "dev", "priv"), ["pf", u8], ["hooknum", u32], ["priority", u32]);
}
