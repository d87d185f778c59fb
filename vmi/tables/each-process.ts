import type { Halves } from "../bytes/address.ts";
import { consistently } from "../linux/consistent.ts";
import { livePid, walkProcesses } from "../linux/tasks.ts";
import type { TableContext } from "./table.ts";

/**
 * Visits the thread group leaders, of which only those that a constraint on `pid` names: the rows of one are a unit (see
 * TableContext.unit), so that they are all of the process that had the task_struct at the start and has it at the end.
 *
 * @param visit writes the rows of a process; returns false when no more rows are wanted
 */
export function eachProcess(context: TableContext, visit: (task: Halves, pid: number) => boolean): void {
  const wanted = context.keys("pid");
  for (const task of listed(context)) {
    // Whoever is not wanted is not worth a unit.
    let pid = livePid(context.kernel, task);
    if (pid === undefined || (wanted !== undefined && !wanted.has(pid))) continue;
    const more = context.unit(
      () => `process ${pid}`,
      () => {
        pid = livePid(context.kernel, task);
        return pid === undefined || (wanted !== undefined && !wanted.has(pid)) || visit(task, pid);
      },
    );
    if (!more) return;
  }
}

/**
 * What is read of every process, without rows: for what is counted, or looked up later.
 *
 * @param read is called again when the process changed meanwhile, so it must be without effect but its result
 */
export function ofEachProcess<T>(context: TableContext, read: (task: Halves, pid: number) => T): T[] {
  const { kernel, budget } = context;
  const all: T[] = [];
  for (const task of listed(context)) {
    const found = consistently(kernel, budget, () => {
      const pid = livePid(kernel, task);
      return pid === undefined ? undefined : { value: read(task, pid) };
    });
    if (found === undefined) context.incomplete("a process kept changing while it was read");
    else if (found.value !== undefined) all.push(found.value.value);
  }
  return all;
}

function* listed(context: TableContext): Generator<Halves> {
  const list = walkProcesses(context.kernel, context.budget);
  context.retried(list.retried);
  if (!list.complete) context.incomplete("the task list could not be followed to its end");
  for (let i = 0; i < list.count; i++) yield { hi: list.hi[i]!, lo: list.lo[i]! };
}
