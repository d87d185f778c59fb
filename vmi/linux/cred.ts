import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import { struct } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { readPointer, readU32 } from "./read.ts";

/** include/linux/cred.h; a kuid_t is a u32. */
export const cred = struct("cred", { uid: "uid", gid: "gid", suid: "suid", sgid: "sgid", euid: "euid", egid: "egid" });

/** The rest of it: what only the tables of privileges look at. */
export const credPrivileges = struct("cred", {
  fsuid: "fsuid",
  fsgid: "fsgid",
  securebits: "securebits",
  /** kernel_cap_t: two u32 until 6.3, a u64 from then on (f122a08b197d): the same eight bytes. */
  cap_inheritable: "cap_inheritable",
  cap_permitted: "cap_permitted",
  cap_effective: "cap_effective",
  cap_bset: "cap_bset",
  cap_ambient: "cap_ambient",
  user_ns: "user_ns",
  group_info: "group_info",
});
/** What the kernel keeps beside the ids, and where a task has them. */
export const credOwner = struct("cred", {
  user: "user",
  /** From 5.14 (905ae01c4ae2). */
  ucounts: "?ucounts",
  /** With CONFIG_KEYS. */
  jit_keyring: "?jit_keyring",
});
/** `cred` is what a task acts with: another than `real_cred` only while the kernel acts for somebody else (override_creds). */
export const taskCred = struct("task_struct", { cred: "cred" });
/** include/linux/sched/user.h, include/linux/user_namespace.h: whose processes and other things are counted. */
export const userStruct = struct("user_struct", { uid: "uid" });
export const ucounts = struct("?ucounts", { uid: "uid" });
/** include/linux/cred.h: the ids follow, each a u32 (from 4.9: 81243eacfa40). */
const groupInfo = struct("group_info", { ngroups: "ngroups", gid: "gid" });
export const userNamespace = struct("user_namespace", { inum: "ns.inum", level: "level", owner: "owner" });

/** NGROUPS_MAX */
const MAX_GROUPS = 65_536;

/** Supplementary group ids of a struct cred, as the kernel keeps them: ascending. Undefined when unreadable. */
export function supplementaryGroups(kernel: Kernel, at: Halves, budget: Budget): number[] | undefined {
  const layout = kernel.layout(groupInfo);
  const info = readPointer(kernel.space, at, kernel.layout(credPrivileges).group_info);
  const count = info && readU32(kernel.space, info, layout.ngroups);
  if (info === undefined || count === undefined || count > MAX_GROUPS) return undefined;
  budget.spend(1 + count);
  const groups: number[] = [];
  for (let i = 0; i < count; i++) {
    const gid = readU32(kernel.space, info, layout.gid + i * 4);
    if (gid === undefined) return undefined;
    groups.push(gid);
  }
  return groups;
}

/** include/uapi/linux/capability.h, by number */
const CAPABILITIES = [
  "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service",
  "net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin",
  "sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override",
  "mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore",
].flatMap((line) => line.split(" "));

/** Names of the capabilities in a set, by number, separated by commas; one that has no name here is its number. */
export function capabilityNames(set: Halves): string {
  const names: string[] = [];
  for (let bit = 0; bit < 64; bit++) {
    const word = bit < 32 ? set.lo : set.hi;
    if ((word >>> (bit & 31)) & 1) names.push(CAPABILITIES[bit] ?? String(bit));
  }
  return names.join();
}
