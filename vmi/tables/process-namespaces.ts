import type { Halves } from "../bytes/address.ts";
import { credPrivileges, userNamespace } from "../linux/cred.ts";
import { follow } from "../linux/follow.ts";
import {
  cgroupNamespace,
  ipcNamespace,
  mntNamespace,
  netNamespace,
  nsproxy,
  nsproxyMore,
  pidNamespace,
  timeNamespace,
  utsNamespace,
} from "../linux/nsproxy.ts";
import { activePidNamespace } from "../linux/pid.ts";
import { isNull, readPointer, readU32 } from "../linux/read.ts";
import { taskStruct } from "../linux/task-struct.ts";
import { CELL } from "./columns.ts";
import { eachProcess } from "./each-process.ts";
import { defineTable, integer, text } from "./table.ts";

/** One row a namespace of a process: the links of /proc/PID/ns. */
export const processNamespaces = defineTable({
  name: "process_namespaces",
  description: "Namespaces that processes are in",
  columns: {
    pid: integer("Process (thread group) id, in the initial pid namespace", { key: true }),
    type: text("cgroup, ipc, mnt, net, pid, pid_for_children, time, time_for_children, user or uts", { key: true }),
    inode: integer("Inode: processes with the same one share the namespace"),
    number: integer("Of type pid: the process's id within that namespace"),
    namespace: text("Address of the namespace"),
  },
  cost: "walk",
  reads: ["init_task", "task_struct", "nsproxy", "pid", "cred", "time_namespace (from 5.6: 769071ac9f20)"],
  examples: [
    "SELECT inode, count(*) AS processes FROM process_namespaces WHERE type = 'net' GROUP BY inode",
    "SELECT pid, number FROM process_namespaces WHERE type = 'pid' AND number <> pid",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const { space } = kernel;
    const task = kernel.layout(taskStruct);
    const proxy = kernel.layout(nsproxy);
    const more = kernel.layout(nsproxyMore);
    const wanted = context.textKeys("type");
    const members = [
      { type: "cgroup", member: proxy.cgroup_ns, inum: kernel.layout(cgroupNamespace).inum },
      { type: "ipc", member: proxy.ipc_ns, inum: kernel.layout(ipcNamespace).inum },
      { type: "mnt", member: proxy.mnt_ns, inum: kernel.layout(mntNamespace).inum },
      { type: "net", member: proxy.net_ns, inum: kernel.layout(netNamespace).inum },
      { type: "pid_for_children", member: more.pid_ns_for_children, inum: kernel.layout(pidNamespace).inum },
      { type: "time", member: more.time_ns, inum: kernel.layout(timeNamespace).inum },
      { type: "time_for_children", member: more.time_ns_for_children, inum: kernel.layout(timeNamespace).inum },
      { type: "uts", member: proxy.uts_ns, inum: kernel.layout(utsNamespace).inum },
    ].filter(({ type, member }) => member >= 0 && (wanted?.has(type) ?? true));
    const { user_ns } = kernel.layout(credPrivileges);
    eachProcess(context, (at, pid) => {
      const row = (type: string, namespace: Halves | undefined, inum: number, number?: number): boolean => {
        const inode = namespace === undefined || isNull(namespace) ? undefined : readU32(space, namespace, inum);
        if (namespace === undefined || inode === undefined) {
          if (namespace === undefined) context.incomplete(`the ${type} namespace of process ${pid} can't be read`);
          return true;
        }
        out.pid?.push(pid);
        out.type?.push(type);
        out.inode?.push(inode);
        out.number?.pushOr(number, CELL.notApplicable);
        out.namespace?.pushAddress(namespace.hi, namespace.lo);
        return context.row();
      };
      if (members.length > 0) {
        // A task that is exiting has given its namespaces up.
        const found = follow(kernel, at, task.nsproxy, budget, (proxyAt) =>
          members.map(({ member }) => readPointer(space, proxyAt, member)),
        );
        if (typeof found !== "string") {
          for (const [i, { type, inum }] of members.entries()) if (!row(type, found.value[i], inum)) return false;
        } else if (found !== "null") context.incomplete(`the namespaces of process ${pid} can't be read`);
      }
      if (wanted?.has("user") ?? true) {
        const found = follow(kernel, at, task.real_cred, budget, (credAt) => readPointer(space, credAt, user_ns));
        const namespace = typeof found === "string" ? undefined : found.value;
        if (!row("user", namespace, kernel.layout(userNamespace).inum)) return false;
      }
      if (wanted?.has("pid") ?? true) {
        const active = activePidNamespace(kernel, at);
        if (active && !row("pid", active.namespace, kernel.layout(pidNamespace).inum, active.number)) return false;
      }
      return true;
    });
  },
});
