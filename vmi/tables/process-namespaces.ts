import { credPrivileges, userNamespace } from "../linux/cred.ts";
import { follow } from "../linux/follow.ts";
import {
  cgroupNamespace,
  ipcNamespace,
  mntNamespace,
  namespaceInode,
  netNamespace,
  nsproxy,
  nsproxyMore,
  pidNamespace,
  timeNamespace,
  utsNamespace,
} from "../linux/nsproxy.ts";
import { activePidNamespace } from "../linux/pid.ts";
import { readPointer, readU32 } from "../linux/read.ts";
import { taskStruct } from "../linux/task-struct.ts";
import { CELL } from "./columns.ts";
import { eachProcess } from "./each-process.ts";
import { defineTable, integer, text } from "./table.ts";

/** A process whose threads all exit has given its namespaces up. */
const CELL_OF = { null: CELL.notApplicable, unreadable: CELL.unreadable, torn: CELL.torn } as const;

/** One row a process: the links of /proc/PID/ns. */
export const processNamespaces = defineTable({
  name: "process_namespaces",
  description: "Namespaces that processes are in: those with the same inode share one",
  columns: {
    pid: integer("Process (thread group) id, in the initial pid namespace", { key: true }),
    cgroup_namespace: integer("Inode of the cgroup namespace"),
    ipc_namespace: integer("Inode of the IPC namespace"),
    mnt_namespace: integer("Inode of the mount namespace"),
    net_namespace: integer("Inode of the network namespace"),
    pid_namespace: integer("Inode of the pid namespace"),
    user_namespace: integer("Inode of the user namespace"),
    uts_namespace: integer("Inode of the UTS namespace"),
    time_namespace: integer("Inode of the time namespace"),
    pid_namespace_for_children: integer("Inode of the pid namespace that its next child will be in"),
    time_namespace_for_children: integer("Inode of the time namespace that its next child will be in"),
    pid_in_namespace: integer("The process's id within its pid namespace"),
    pid_namespace_level: integer("How many pid namespaces that one is within: 0 for the initial one"),
    user_namespace_level: integer("How many user namespaces that one is within: 0 for the initial one"),
    user_namespace_owner: integer("User id of who made the user namespace, as in the initial one"),
    nsproxy: text("Address of the struct nsproxy"),
  },
  cost: "walk",
  reads: [
    "init_task",
    "task_struct",
    "nsproxy",
    "pid",
    "cred",
    "user_namespace",
    "time_namespace (from 5.6: 769071ac9f20)",
  ],
  examples: [
    "SELECT net_namespace, count(*) AS processes FROM process_namespaces GROUP BY net_namespace",
    "SELECT pid, pid_in_namespace FROM process_namespaces WHERE pid_namespace_level > 0",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const { space } = kernel;
    const task = kernel.layout(taskStruct);
    const proxy = kernel.layout(nsproxy);
    const more = kernel.layout(nsproxyMore);
    const { user_ns } = kernel.layout(credPrivileges);
    const user = kernel.layout(userNamespace);
    const pid_inum = kernel.layout(pidNamespace).inum;
    const time_inum = kernel.layout(timeNamespace).inum;
    const members = [
      { column: out.cgroup_namespace, member: proxy.cgroup_ns, inum: kernel.layout(cgroupNamespace).inum },
      { column: out.ipc_namespace, member: proxy.ipc_ns, inum: kernel.layout(ipcNamespace).inum },
      { column: out.mnt_namespace, member: proxy.mnt_ns, inum: kernel.layout(mntNamespace).inum },
      { column: out.net_namespace, member: proxy.net_ns, inum: kernel.layout(netNamespace).inum },
      { column: out.uts_namespace, member: proxy.uts_ns, inum: kernel.layout(utsNamespace).inum },
      { column: out.time_namespace, member: more.time_ns, inum: time_inum },
      { column: out.pid_namespace_for_children, member: more.pid_ns_for_children, inum: pid_inum },
      { column: out.time_namespace_for_children, member: more.time_ns_for_children, inum: time_inum },
    ].filter(({ column }) => column !== undefined);
    const wantsProxy = members.length > 0 || out.nsproxy !== undefined;
    const wantsPid = out.pid_namespace ?? out.pid_in_namespace ?? out.pid_namespace_level;
    const wantsUser = out.user_namespace ?? out.user_namespace_level ?? out.user_namespace_owner;
    eachProcess(context, (at, pid) => {
      out.pid?.push(pid);
      if (wantsProxy) {
        const found = follow(kernel, at, task.nsproxy, budget, (proxyAt) => ({
          proxyAt,
          inodes: members.map(({ member, inum }) =>
            member < 0 ? undefined : namespaceInode(kernel, proxyAt, member, inum),
          ),
        }));
        members.forEach(({ column, member }, i) => {
          if (member < 0) column?.absent(CELL.unsupported);
          else if (typeof found === "string") column?.absent(CELL_OF[found]);
          else column?.pushOr(found.value.inodes[i], CELL.unreadable);
        });
        if (typeof found === "string") out.nsproxy?.absent(CELL_OF[found]);
        else out.nsproxy?.pushAddress(found.value.proxyAt.hi, found.value.proxyAt.lo);
      }
      if (wantsPid !== undefined) {
        const active = activePidNamespace(kernel, at);
        out.pid_namespace?.pushOr(active && readU32(space, active.namespace, pid_inum), CELL.notApplicable);
        out.pid_in_namespace?.pushOr(active?.number, CELL.notApplicable);
        out.pid_namespace_level?.pushOr(active?.level, CELL.notApplicable);
      }
      if (wantsUser !== undefined) {
        const found = follow(kernel, at, task.real_cred, budget, (credAt) => readPointer(space, credAt, user_ns));
        const namespace = typeof found === "string" ? undefined : found.value;
        const u32 = (offset: number) => namespace && readU32(space, namespace, offset);
        out.user_namespace?.pushOr(u32(user.inum), CELL.unreadable);
        out.user_namespace_level?.pushOr(u32(user.level), CELL.unreadable);
        out.user_namespace_owner?.pushOr(u32(user.owner), CELL.unreadable);
      }
      return context.row();
    });
  },
});
