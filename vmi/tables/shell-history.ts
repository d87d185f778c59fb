import { cred } from "../linux/cred.ts";
import { follow } from "../linux/follow.ts";
import { readPointer, readU32 } from "../linux/read.ts";
import { shellHistory as historyOf } from "../linux/shell-history.ts";
import { taskStruct } from "../linux/task-struct.ts";
import { CELL } from "./columns.ts";
import { eachProcess } from "./each-process.ts";
import { defineTable, integer, text } from "./table.ts";

/** One row a line that was typed into a shell that runs still. */
export const shellHistory = defineTable({
  name: "shell_history",
  description:
    "Lines typed into shells that run (bash, and other programs with GNU readline's history), out of their memory: also where HISTFILE is none",
  columns: {
    uid: integer("Real user of the shell"),
    time: integer("When it was entered, seconds since 1970"),
    command: text("The line"),
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
    eachProcess(context, (at, pid) => {
      const found = follow(kernel, at, task.mm, budget, (mm) => historyOf(kernel, mm, budget));
      if (found === "null") return true;
      const history = typeof found === "string" ? undefined : found.value;
      if (history === undefined) {
        context.incomplete(`the heap of process ${pid} can't be read`);
        return true;
      }
      if (!history.complete) context.incomplete(`the heap of process ${pid} is too large to be searched to its end`);
      const credentials = history.entries.length > 0 ? readPointer(kernel.space, at, task.real_cred) : undefined;
      const user = credentials && readU32(kernel.space, credentials, uid);
      for (const entry of history.entries) {
        out.uid?.pushOr(user, CELL.unreadable);
        out.time?.push(entry.time);
        out.command?.pushBytes(entry.line);
        out.pid?.push(pid);
        out.address?.pushAddress(entry.at.hi, entry.at.lo);
        out.deleted?.push(entry.listed ? 0 : 1);
        if (!context.row()) return false;
      }
      return true;
    });
  },
});
