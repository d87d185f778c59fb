import { cred, credPrivileges, userNamespace } from "../linux/cred.ts";
import { follow } from "../linux/follow.ts";
import { loginUid } from "../linux/login-uid.ts";
import { readPointer, readU32 } from "../linux/read.ts";
import { taskStruct } from "../linux/task-struct.ts";
import { ofEachProcess } from "./each-process.ts";
import { isWantedNumber } from "./keys.ts";
import { defineTable, integer, text } from "./table.ts";

interface Uses {
  real: number;
  effective: number;
  saved: number;
  login: number;
  firstPid: number;
  readonly namespaces: Set<number>;
}

const ids = ["uid", "euid", "suid"] as const;

/** One row a user id that a process has in any role. */
export const usersSeen = defineTable({
  name: "users_seen",
  description: "User ids in use by processes: what /etc/passwd says does not matter",
  columns: {
    uid: integer("User id, as in the initial user namespace", { key: true }),
    processes: integer("Processes whose real user it is"),
    effective: integer("Processes whose effective user it is"),
    saved: integer("Processes whose saved user it is"),
    logins: integer(
      "Processes of its login sessions (audit's loginuid), whoever they run as since; 0 where the kernel keeps none",
    ),
    first_pid: integer("The lowest of these processes' ids"),
    user_namespaces: text(
      "Inodes of the user namespaces of the processes that have it, ascending, separated by spaces",
    ),
  },
  cost: "walk",
  reads: ["init_task", "task_struct", "cred", "user_namespace"],
  examples: [
    "SELECT uid, processes FROM users_seen ORDER BY processes DESC",
    "SELECT uid, effective FROM users_seen WHERE effective > processes",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const { space } = kernel;
    const { real_cred } = kernel.layout(taskStruct);
    const id = kernel.layout(cred);
    const { user_ns } = kernel.layout(credPrivileges);
    const { inum } = kernel.layout(userNamespace);
    const wanted = context.keys("uid");
    const seen = new Map<number, Uses>();
    const processes = ofEachProcess(context, (task, pid) => {
      const found = follow(kernel, task, real_cred, budget, (at) => {
        const roles = ids.map((key) => readU32(space, at, id[key]));
        const asked = out.user_namespaces && roles.some((uid) => isWantedNumber(wanted, uid));
        const namespace = asked ? readPointer(space, at, user_ns) : undefined;
        return { roles, namespace: namespace && readU32(space, namespace, inum) };
      });
      return { pid, found, login: out.logins && loginUid(kernel, task) };
    });
    for (const { pid, found, login } of processes) {
      if (typeof found === "string") {
        context.incomplete(`the user of process ${pid} can't be read`);
        continue;
      }
      const { roles, namespace } = found.value;
      for (const uid of new Set(roles)) {
        if (uid === undefined || !isWantedNumber(wanted, uid)) continue;
        const uses = usesOf(seen, uid, pid);
        uses.real += Number(roles[0] === uid);
        uses.effective += Number(roles[1] === uid);
        uses.saved += Number(roles[2] === uid);
        if (namespace !== undefined) uses.namespaces.add(namespace);
      }
      if (login !== undefined && isWantedNumber(wanted, login)) usesOf(seen, login, pid).login++;
    }
    for (const [uid, uses] of [...seen].sort(([a], [b]) => a - b)) {
      out.uid?.push(uid);
      out.processes?.push(uses.real);
      out.effective?.push(uses.effective);
      out.saved?.push(uses.saved);
      out.logins?.push(uses.login);
      out.first_pid?.push(uses.firstPid);
      out.user_namespaces?.push([...uses.namespaces].sort((a, b) => a - b).join(" "));
      if (!context.row()) return;
    }
  },
});

function usesOf(seen: Map<number, Uses>, uid: number, pid: number): Uses {
  const known = seen.get(uid);
  if (known !== undefined) {
    known.firstPid = Math.min(known.firstPid, pid);
    return known;
  }
  const uses = { real: 0, effective: 0, saved: 0, login: 0, firstPid: pid, namespaces: new Set<number>() };
  seen.set(uid, uses);
  return uses;
}
