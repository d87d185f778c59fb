import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import { cred } from "../linux/cred.ts";
import { follow } from "../linux/follow.ts";
import type { Kernel } from "../linux/kernel.ts";
import { mmStruct, readUserSpan } from "../linux/mm.ts";
import { latin1, plus, readCString, readPointer, readU32 } from "../linux/read.ts";
import { ReadlineUsers } from "../linux/readline.ts";
import { shellHistory as historyOf, type SearchedPages } from "../linux/shell-history.ts";
import { TASK_COMM_LEN, taskStruct } from "../linux/task-struct.ts";
import { CELL } from "./columns.ts";
import { eachProcess } from "./each-process.ts";
import { isWantedNumber } from "./keys.ts";
import { defineTable, integer, text } from "./table.ts";

/** One row a line that was typed into a shell that runs still. */
export const shellHistory = defineTable({
  name: "shell_history",
  description:
    "Lines typed into shells that run (bash, and other programs with GNU readline's history), out of their memory: also where HISTFILE is none. " +
    "Not of a program with a readline of its own whose name is not among its symbols",
  columns: {
    uid: integer("Real user of the shell", { key: true }),
    time: integer("When it was entered, seconds since 1970"),
    command: text("The line"),
    history_file: text(
      "Where bash writes its history by the environment that it was started with: HISTFILE, or .bash_history in HOME; it " +
        "may have been told another since. Not applicable for other programs, and without either",
    ),
    pid: integer("The shell's process", { key: true }),
    address: text("Address of the HIST_ENTRY in the process"),
    deleted: integer("1 when nothing on the heap points to it: it was taken off the history, and not overwritten yet"),
  },
  permission: "read",
  cost: "scan",
  reads: ["init_task", "task_struct, cred", "mm_struct", "the process's own heap: HIST_ENTRY of readline"],
  examples: [
    "SELECT datetime(time, 'unixepoch') AS entered, command FROM shell_history ORDER BY time",
    "SELECT h.command, p.name FROM shell_history h JOIN processes p USING (vm, pid) WHERE h.uid = 0",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const task = kernel.layout(taskStruct);
    const { uid } = kernel.layout(cred);
    const searched: SearchedPages = new Map();
    const readers = new ReadlineUsers(kernel, budget);
    const users = context.keys("uid");
    eachProcess(context, (at, pid) => {
      const credentials = readPointer(kernel.space, at, task.real_cred);
      const user = credentials && readU32(kernel.space, credentials, uid);
      if (!isWantedNumber(users, user)) return true;
      const read = (mm: Halves) => historyOf(kernel, mm, readers, searched, budget);
      const found = follow(kernel, at, task.mm, budget, read, true);
      if (found === "null") return true;
      const history = typeof found === "string" ? undefined : found.value;
      if (history === undefined) {
        context.incomplete(`the heap of process ${pid} can't be read`);
        return true;
      }
      if (!history.complete) context.incomplete(`the heap of process ${pid} is too large to be searched to its end`);
      const file = out.history_file && history.entries.length > 0 ? historyFile(kernel, at, budget) : undefined;
      for (const entry of history.entries) {
        out.uid?.pushOr(user, CELL.unreadable);
        out.time?.push(entry.time);
        out.command?.pushBytes(entry.line);
        out.history_file?.pushOr(file, CELL.notApplicable);
        out.pid?.push(pid);
        out.address?.pushAddress(entry.at.hi, entry.at.lo);
        out.deleted?.push(entry.listed ? 0 : 1);
        if (!context.row()) return false;
      }
      return true;
    });
  },
});

const BASH = Buffer.from("bash");

/** Undefined where it is not known. */
function historyFile(kernel: Kernel, task: Halves, budget: Budget): Uint8Array | undefined {
  const { comm, mm } = kernel.layout(taskStruct);
  const { env_start, env_end } = kernel.layout(mmStruct);
  const name = readCString(kernel.space, plus(task, comm), TASK_COMM_LEN);
  if (name === undefined || !BASH.equals(name)) return undefined;
  const found = follow(kernel, task, mm, budget, (at) => readUserSpan(kernel, at, env_start, env_end, budget));
  const environment = (typeof found === "string" ? undefined : found.value) ?? new Uint8Array();
  const entries = latin1(environment).split("\0");
  const variableOf = (name: string) => entries.find((entry) => entry.startsWith(name))?.slice(name.length);
  const home = variableOf("HOME=");
  const file = variableOf("HISTFILE=") ?? (home === undefined ? undefined : `${home}/.bash_history`);
  return file === undefined ? undefined : Buffer.from(file, "latin1");
}
