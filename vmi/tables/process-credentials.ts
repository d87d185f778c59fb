import type { Halves } from "../bytes/address.ts";
import { cred, credPrivileges, supplementaryGroups, userNamespace } from "../linux/cred.ts";
import { follow } from "../linux/follow.ts";
import type { Kernel } from "../linux/kernel.ts";
import { readPointer, readU32 } from "../linux/read.ts";
import { seccomp } from "../linux/seccomp.ts";
import { taskStruct } from "../linux/task-struct.ts";
import { CELL } from "./columns.ts";
import { eachProcess } from "./each-process.ts";
import { defineTable, integer, text } from "./table.ts";

const ids = ["uid", "gid", "euid", "egid", "suid", "sgid"] as const;

/** One row a process: everything that decides what it may do but the capabilities, which are a table of their own. */
export const processCredentials = defineTable({
  name: "process_credentials",
  description: "Ids, groups and restrictions of processes",
  columns: {
    pid: integer("Process (thread group) id", { key: true }),
    uid: integer("Real user id"),
    gid: integer("Real group id"),
    euid: integer("Effective user id"),
    egid: integer("Effective group id"),
    suid: integer("Saved user id"),
    sgid: integer("Saved group id"),
    fsuid: integer("User id for access to files"),
    fsgid: integer("Group id for access to files"),
    groups: text("Supplementary group ids, ascending, separated by spaces"),
    user_namespace: integer("Inode of the user namespace"),
    securebits: integer("SECBIT flags (capabilities(7)), 0 for none"),
    no_new_privs: integer("1 when execve() gives it no privileges"),
    seccomp: integer("0 none, 1 strict, 2 filter"),
    cred: text("Address of the struct cred; processes that share one share their ids"),
  },
  cost: "walk",
  reads: ["init_task", "task_struct", "cred", "group_info", "user_namespace", "seccomp"],
  examples: [
    "SELECT pid, uid, euid FROM process_credentials WHERE uid <> euid",
    "SELECT cred, count(*) AS processes FROM process_credentials GROUP BY cred HAVING processes > 1",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const { real_cred } = kernel.layout(taskStruct);
    const layout = kernel.layout(cred);
    const basic = ids
      .map((id) => ({ column: out[id], member: layout[id] }))
      .filter(({ column }) => column !== undefined);
    const columns = Object.values(out).filter((column) => column !== undefined && column !== out.pid);
    eachProcess(context, (task, pid) => {
      const found = follow(kernel, task, real_cred, budget, (at) => ({
        at,
        basic: basic.map(({ member }) => readU32(kernel.space, at, member)),
        ...privileges(kernel, at),
        groups: out.groups && supplementaryGroups(kernel, at, budget),
      }));
      out.pid?.push(pid);
      if (typeof found === "string") {
        for (const column of columns) column?.absent(found === "torn" ? CELL.torn : CELL.unreadable);
        return context.row();
      }
      const { value } = found;
      basic.forEach(({ column }, i) => {
        column?.pushOr(value.basic[i], CELL.unreadable);
      });
      out.fsuid?.pushOr(value.fsuid, CELL.unreadable);
      out.fsgid?.pushOr(value.fsgid, CELL.unreadable);
      if (value.groups === undefined) out.groups?.absent(CELL.unreadable);
      else out.groups?.push(value.groups.join(" "));
      out.user_namespace?.pushOr(value.namespace, CELL.unreadable);
      out.securebits?.pushOr(value.securebits, CELL.unreadable);
      const limits = seccomp(kernel, task);
      out.no_new_privs?.pushOr(limits.noNewPrivs, CELL.unreadable);
      out.seccomp?.pushOr(limits.mode, CELL.unsupported);
      out.cred?.pushAddress(value.at.hi, value.at.lo);
      return context.row();
    });
  },
});

function privileges(kernel: Kernel, at: Halves) {
  const { space } = kernel;
  const layout = kernel.layout(credPrivileges);
  const namespace = readPointer(space, at, layout.user_ns);
  return {
    fsuid: readU32(space, at, layout.fsuid),
    fsgid: readU32(space, at, layout.fsgid),
    securebits: readU32(space, at, layout.securebits),
    namespace: namespace && readU32(space, namespace, kernel.layout(userNamespace).inum),
  };
}
