// Lies about the structures that tables walk: trees that lead back to themselves, tables without end, numbers that can't be.
import assert from "node:assert/strict";
import type { Guest } from "../../vmi/index.ts";
import { variable } from "./kernel.ts";
import { read } from "./support.ts";

type Write = (at: bigint, value: bigint) => void;

const ALL = (1n << 64n) - 1n;
/** 2^63: what is negative for who takes it as signed. */
const HUGE = 1n << 63n;
const POINTER = 8n;
/** Slots of a node of an xarray. */
const SLOTS = 64;
const MODULES = 4;
const FILES = 400;

/** Each writes 64-bit words over an image, also where a member is shorter; places are found by the symbols and types of the guest itself. */
export function structureLies(guest: Guest): Record<string, (write: Write) => void> {
  const layouts = new Map<string, ReadonlyMap<string, number>>();
  const offset = (type: string, member: string) => {
    const known = layouts.get(type) ?? new Map(guest.type(type).members.map(({ path, offset: at }) => [path, at]));
    layouts.set(type, known);
    const found = known.get(member);
    assert.ok(found !== undefined, `${type} has no ${member}`);
    return BigInt(found);
  };
  const place = (name: string) => {
    const [symbol] = guest.symbols([name]);
    assert.ok(symbol, `the kernel has no ${name}`);
    return symbol.address;
  };
  const pointerAt = (address: bigint) => {
    const [found] = guest.read([{ space: "kernel", address, length: 8 }]);
    return found!.error === "" ? Buffer.from(found!.bytes).readBigUInt64LE() : 0n;
  };
  const addresses = (table: string, column: string) =>
    read(guest, table).flatMap((row) => (typeof row[column] === "string" ? [BigInt(row[column])] : []));
  const tasks = addresses("processes", "task");
  const spaces = () =>
    tasks.map((task) => pointerAt(task + offset("task_struct", "mm"))).filter((address) => address !== 0n);
  const xaHead = offset("xarray", "xa_head");
  const slots = offset("xa_node", "slots");
  const mapleRoots = () =>
    spaces().map((mm) => {
      const at = mm + offset("mm_struct", "mm_mt") + offset("maple_tree", "ma_root");
      return { at, root: pointerAt(at) };
    });
  const inodes = () => addresses("page_cache_files", "address").slice(0, FILES);
  const caches = () => inodes().map((inode) => pointerAt(inode + offset("inode", "i_mapping")));
  return {
    "maple trees whose every slot is their own root": (write) => {
      for (const { root } of mapleRoots()) {
        if ((root & 3n) !== 2n) continue;
        const node = root & ~0xffn;
        for (let at = 8n; at < 256n; at += POINTER) write(node + at, root);
      }
    },
    "maple trees that are one node which never ends": (write) => {
      for (const { root } of mapleRoots()) {
        if ((root & 3n) !== 2n) continue;
        const node = root & ~0xffn;
        for (let i = 0n; i < 15n; i++) write(node + 8n + i * POINTER, ALL - 100n + i);
      }
    },
    "pages of files that are nodes of themselves": (write) => {
      for (const mapping of caches()) {
        const head = pointerAt(mapping + offset("address_space", "i_pages") + xaHead);
        if ((head & 3n) !== 2n) continue;
        for (let slot = 0; slot < SLOTS; slot++) write((head & ~3n) + slots + BigInt(slot) * POINTER, head);
      }
    },
    "files of 2^63 bytes in 2^64 pages": (write) => {
      for (const inode of inodes()) {
        write(inode + offset("inode", "i_size"), HUGE - 1n);
        write(pointerAt(inode + offset("inode", "i_mapping")) + offset("address_space", "nrpages"), ALL);
      }
    },
    "registries of BPF and of works that lead back to themselves": (write) => {
      for (const name of ["prog_idr", "map_idr", "link_idr", "worker_pool_idr"]) {
        const head = pointerAt(place(name) + offset("idr", "idr_rt") + xaHead);
        if ((head & 3n) !== 2n) continue;
        for (let slot = 0; slot < SLOTS; slot++) write((head & ~3n) + slots + BigInt(slot) * POINTER, head);
      }
    },
    "red-black trees of one node that is above itself": (write) => {
      const roots = [
        pointerAt(place("uprobes_tree")),
        pointerAt(
          place("sysctl_table_root") +
            offset("ctl_table_root", "default_set") +
            offset("ctl_table_set", "dir") +
            offset("ctl_dir", "root"),
        ),
      ].filter((root) => root !== 0n);
      assert.ok(roots.length > 0);
      for (const root of roots) for (const at of [0n, POINTER, 2n * POINTER]) write(root + at, root);
    },
    "a log of 2^32 records that all are the first": (write) => {
      const log = variable(guest, "prb");
      const ring = log + offset("printk_ringbuffer", "desc_ring");
      write(ring + offset("prb_desc_ring", "count_bits"), 20n);
      write(ring + offset("prb_desc_ring", "tail_id"), 1n);
      write(ring + offset("prb_desc_ring", "head_id"), 0n);
      write(log + offset("printk_ringbuffer", "text_data_ring") + offset("prb_data_ring", "size_bits"), 31n);
    },
    "groups of processes that are their own children": (write) => {
      for (const group of addresses("cgroups", "cgroup")) {
        const sibling = group + offset("cgroup", "self") + offset("cgroup_subsys_state", "sibling");
        const children = group + offset("cgroup", "self") + offset("cgroup_subsys_state", "children");
        write(children, sibling);
        write(children + POINTER, sibling);
        write(sibling, children);
        write(sibling + POINTER, children);
        const node = pointerAt(group + offset("cgroup", "kn"));
        write(node + offset("kernfs_node", "parent"), node);
      }
    },
    "modules with as many symbols and parameters as a number can say": (write) => {
      for (const row of read(guest, "kernel_modules").slice(0, MODULES)) {
        const module = BigInt(String(row.module ?? "0x0"));
        if (module === 0n) continue;
        const kallsyms = pointerAt(module + offset("module", "kallsyms"));
        write(kallsyms + offset("mod_kallsyms", "num_symtab"), 0xffff_ffffn);
        write(module + offset("module", "num_kp"), 0xffff_ffffn);
      }
    },
    "hash tables of sockets and neighbours of 2^31 chains": (write) => {
      const sockets = variable(guest, "nl_table");
      const table = pointerAt(sockets + offset("netlink_table", "hash") + offset("rhashtable", "tbl"));
      write(table + offset("bucket_table", "size"), 0x7fff_ffffn);
      const neighbours = pointerAt(place("arp_tbl") + offset("neigh_table", "nht"));
      write(neighbours + offset("neigh_hash_table", "hash_shift"), 31n);
    },
    "mounts, open files and hooks that are counted without end": (write) => {
      for (const task of tasks) {
        const files = pointerAt(task + offset("task_struct", "files"));
        if (files === 0n) continue;
        write(pointerAt(files + offset("files_struct", "fdt")) + offset("fdtable", "max_fds"), 0x10_0000n);
        write(pointerAt(files + offset("files_struct", "fdt")) + offset("fdtable", "open_fds"), place("init_task"));
      }
    },
  };
}
