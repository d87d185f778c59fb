import type { TypeRef } from "./btf-writer.ts";
import type { Builder, Member, Primitives } from "./network-types.ts";

/** Structures of a made-up kernel's files, mounts, memory areas and cgroups: linux/file.ts, mounts.ts, vma.ts, cgroup-tree.ts. */
export function filesTypes(
  b: Builder,
  { old, ptr, u8, u16, u32, u64, list, hlist, gap }: Primitives,
  { path, xarray, kuid }: Readonly<Record<"path" | "xarray" | "kuid", TypeRef>>,
): void {
  const array = b.btf.array.bind(b.btf);
  const pointers = (...names: string[]) => names.map((name): Member => [name, ptr]);
  const numbers = (...names: string[]) => names.map((name): Member => [name, u64]);
  const head = b.struct("", ["first", ptr]);

  // From 6.14 (1a7c7ef4bdb1) f_path is in a union.
  const filePath = b.union("", ["f_path", b.btf.qualified(10, path)], ["__f_path", path]);
  const file = b.struct(
    "file",
    gap(40),
    ...pointers("f_inode", "f_op", "private_data"),
    ["f_mode", u32],
    ["f_flags", u32],
    ["f_pos", u64],
    old ? ["f_path", path] : ["", filePath],
  );
  // From 6.5 (62d53c4a1dfe).
  if (!old) b.struct("backing_file", ["file", file], ["user_path", path]);
  const hashAndLength = b.union("", ["", b.struct("", ["hash", u32], ["len", u32])], ["hash_len", u64]);
  const qstr = b.struct("qstr", ["", hashAndLength], ["name", ptr]);
  const bucket = b.struct("hlist_bl_node", ["next", ptr], ["pprev", ptr]);
  const children: Member[] = old
    ? [
        ["d_child", list],
        ["d_subdirs", list],
      ]
    : [
        ["d_sib", bucket],
        ["d_children", ptr],
      ];
  b.struct(
    "dentry",
    ["d_flags", u32],
    ["d_seq", b.struct("", ["seqcount", b.struct("", ["sequence", u32])])],
    ["d_hash", bucket],
    ["d_parent", ptr],
    ["d_name", qstr],
    ["d_inode", ptr],
    gap(40),
    ...children,
    ["d_u", b.union("", ["d_alias", hlist], ["d_rcu", hlist])],
  );
  const inode = b.struct(
    "inode",
    ["i_mode", u16],
    ["i_uid", kuid],
    ...pointers("i_sb", "i_mapping"),
    ["i_ino", u64],
    ["i_nlink", u32],
    ["i_size", u64],
    ["i_sb_list", list],
    ["i_dentry", head],
    ["i_private", ptr],
  );
  b.struct("shmem_inode_info", ["lock", u32], ["seals", u32], gap(32), ["vfs_inode", inode]);
  b.struct("address_space", ["host", ptr], ["i_pages", xarray], ["nrpages", u64]);
  b.struct("page", ["flags", u64], gap(16), ["mapping", ptr], gap(32));
  b.struct("file_system_type", ["name", ptr]);
  b.struct(
    "super_block",
    ["s_list", list],
    ["s_dev", u32],
    ["s_flags", u64],
    ["s_type", ptr],
    gap(100),
    ["s_mounts", list],
    ["s_inodes", list],
  );

  const vfsmount = b.struct("vfsmount", ...pointers("mnt_root", "mnt_sb"), ["mnt_flags", u32]);
  b.struct(
    "mount",
    gap(16),
    ...pointers("mnt_parent", "mnt_mountpoint"),
    ["mnt", vfsmount],
    ["mnt_instance", list],
    ...pointers("mnt_devname", "mnt_ns"),
    ["mnt_id", u32],
    old ? ["mnt_list", list] : ["mnt_node", array(u64, 3)],
  );

  b.struct(
    "vm_area_struct",
    ...numbers("vm_start", "vm_end"),
    ["vm_mm", ptr],
    ...numbers("vm_page_prot", "vm_flags"),
    ["anon_name", ptr],
    ["vm_ops", ptr],
    ["vm_pgoff", u64],
    ...pointers("vm_file", "vm_private_data"),
  );
  b.struct("anon_vma_name", ["kref", u32], ["name", array(u8, 0)]);
  b.struct("vm_special_mapping", ["name", ptr]);
  b.struct("maple_range_64", ["parent", ptr], ["pivot", array(u64, 15)], ["slot", array(ptr, 16)]);
  b.struct(
    "maple_arange_64",
    ["parent", ptr],
    ["pivot", array(u64, 9)],
    ["slot", array(ptr, 10)],
    ["gap", array(u64, 10)],
  );

  const state = b.struct("", ["flags", u32], ["children", list], ["sibling", list]);
  const mask = old ? u16 : u32;
  const cgroup = b.struct(
    "cgroup",
    ["self", state],
    ["flags", u64],
    gap(150),
    ["kn", ptr],
    ["subtree_control", mask],
    ["subtree_ss_mask", mask],
    ["dom_cgrp", ptr],
  );
  b.struct("cgroup_root", ["kf_root", ptr], ["subsys_mask", u32], ["cgrp", cgroup]);
  b.struct("cgroup_subsys", gap(64), ["name", ptr]);
  b.struct("css_set", gap(136), ["dfl_cgrp", ptr]);
  b.struct("kernfs_node", gap(8), [old ? "parent" : "__parent", ptr], ["name", ptr], ["id", u64]);
}
