import type { Halves } from "../bytes/address.ts";
import { readU32 } from "../linux/read.ts";
import { taskStruct } from "../linux/task-struct.ts";
import { walkProcesses } from "../linux/tasks.ts";
import type { TableContext } from "./table.ts";

/**
 * Visits the thread group leaders, of which only those that a constraint on `pid` names. What belongs to a process hangs
 * on a pointer in its task: read it by follow(), which notices when the process gave it up meanwhile.
 *
 * @param visit returns false when no more rows are wanted
 */
export function eachProcess(context: TableContext, visit: (task: Halves, pid: number) => boolean): void {
  const { kernel, budget } = context;
  const { tgid } = kernel.layout(taskStruct);
  const wanted = context.keys("pid");
  const list = walkProcesses(kernel, budget);
  context.retried(list.retried);
  if (!list.complete) context.incomplete("the task list could not be followed to its end");
  for (let i = 0; i < list.count; i++) {
    const at = { hi: list.hi[i]!, lo: list.lo[i]! };
    const pid = readU32(kernel.space, at, tgid);
    if (pid === undefined || (wanted !== undefined && !wanted.has(pid))) continue;
    if (!visit(at, pid)) return;
  }
}
