import type { Halves } from "../bytes/address.ts";
import { struct } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { isNull, readPointer, readU32 } from "./read.ts";

/** include/linux/nsproxy.h; the pid namespace of a process's own tasks hangs on its struct pid, the user's on its cred. */
export const nsproxy = struct("nsproxy", {
  uts_ns: "uts_ns",
  ipc_ns: "ipc_ns",
  mnt_ns: "mnt_ns",
  net_ns: "net_ns",
  cgroup_ns: "cgroup_ns",
});

export const utsNamespace = struct("uts_namespace", { inum: "ns.inum", name: "name" });
export const ipcNamespace = struct("ipc_namespace", { inum: "ns.inum" });
export const mntNamespace = struct("mnt_namespace", { inum: "ns.inum" });
export const netNamespace = struct("net", { inum: "ns.inum" });
export const cgroupNamespace = struct("cgroup_namespace", { inum: "ns.inum" });

/** The inode number that /proc/PID/ns shows. `proxy` is a struct nsproxy. */
export function namespaceInode(kernel: Kernel, proxy: Halves, member: number, inum: number): number | undefined {
  const namespace = readPointer(kernel.space, proxy, member);
  return namespace === undefined || isNull(namespace) ? undefined : readU32(kernel.space, namespace, inum);
}

/** The rest of it; time namespaces from 5.6 (769071ac9f20). */
export const nsproxyMore = struct("nsproxy", {
  pid_ns_for_children: "pid_ns_for_children",
  time_ns: "?time_ns",
  time_ns_for_children: "?time_ns_for_children",
});
export const pidNamespace = struct("pid_namespace", { inum: "ns.inum" });
export const timeNamespace = struct("?time_namespace", { inum: "ns.inum" });
