import type { Halves } from "../bytes/address.ts";
import { livePid, readProcesses, walkProcesses } from "../linux/tasks.ts";
import type { TableContext } from "./table.ts";

/**
 * Visits the thread group leaders, of which only those that a constraint on `pid` names: the rows of one are a unit (see
 * TableContext.unit), so that they are all of the process that had the task_struct at the start and has it at the end.
 *
 * @param visit writes the rows of a process; returns false when no more rows are wanted. `last`: see Unit
 */
export function eachProcess(context: TableContext, visit: (task: Halves, pid: number, last: boolean) => boolean): void {
  const wanted = context.keys("pid");
  const list = walkProcesses(context.kernel, context.budget);
  context.retried(list.retried);
  if (!list.complete) context.incomplete(UNFINISHED);
  for (let i = 0; i < list.count; i++) {
    const task = { hi: list.hi[i]!, lo: list.lo[i]! };
    // Whoever is not wanted is not worth a unit.
    let pid = wanted && livePid(context.kernel, task);
    if (wanted !== undefined && (pid === undefined || !wanted.has(pid))) continue;
    const more = context.unit(
      () => `process ${pid}`,
      (last) => {
        pid = livePid(context.kernel, task);
        return pid === undefined || (wanted !== undefined && !wanted.has(pid)) || visit(task, pid, last);
      },
    );
    if (!more) return;
  }
}

/** What is read of every process, without rows: for what is counted, or looked up later; see readProcesses. */
export function ofEachProcess<T>(context: TableContext, read: (task: Halves, pid: number) => T): readonly T[] {
  const { values, retried, complete, torn } = readProcesses(context.kernel, context.budget, read);
  context.retried(retried);
  if (!complete) context.incomplete(UNFINISHED);
  if (torn > 0) context.incomplete(`processes kept changing while they were read: ${torn}`);
  return values;
}

const UNFINISHED = "the task list could not be followed to its end";
