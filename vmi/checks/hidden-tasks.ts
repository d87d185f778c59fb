import { formatHalves, type Halves } from "../bytes/address.ts";
import { cred } from "../linux/cred.ts";
import { follow } from "../linux/follow.ts";
import { isSameTask, type LiveTask, liveTask } from "../linux/live-task.ts";
import { mmStruct } from "../linux/mm.ts";
import { Paths } from "../linux/path.ts";
import { isNull, latin1, plus, readCString, readPointer, readU32 } from "../linux/read.ts";
import { TASK_COMM_LEN, taskStruct } from "../linux/task-struct.ts";
import { hasNumbers, readTaskViews, type TaskViews, VIEW, type ViewName } from "../linux/task-views.ts";
import type { CheckContext } from "./check.ts";

/** What the checks for hidden tasks share: the views, read once, and a task in words. */

/** Of what this pass looked at first. */
export function taskViews({ kernel, budget }: CheckContext): TaskViews {
  return readTaskViews(kernel, budget);
}

/** As WORDS, of all tasks. */
const WHOLE: Record<ViewName, string> = {
  tasks: "the task list",
  threads: "the list of each process's threads",
  children: "the list of each process's children",
  numbers: "the tree of pid numbers",
  cgroup: "the list of each control group's tasks",
  running: "the run queues",
};

/** Notes the views that the kernel has, and in which a task that is missing was not found. */
export function noteBroken({ incomplete }: CheckContext, { broken }: TaskViews): void {
  for (const view of namesOf(broken)) incomplete(`${WHOLE[view]} could not be followed to its end`);
}

const WORDS: Record<ViewName, string> = {
  tasks: "the task list",
  threads: "its thread group",
  children: "its parent's children",
  numbers: "the pid numbers",
  cgroup: "its control group",
  running: "a run queue",
};

export interface HiddenTask {
  readonly task: LiveTask;
  readonly missing: readonly ViewName[];
  readonly seen: readonly ViewName[];
}

/**
 * Those of some tasks that are missing where each live task is. Everything is read anew for it: a task that was alive
 * before that, and is the same and alive still after it, was in every list meanwhile.
 */
export function findHidden(context: CheckContext, suspects: readonly LiveTask[]): HiddenTask[] {
  const { kernel, budget } = context;
  kernel.dropCaches();
  const views = readTaskViews(kernel, budget);
  noteBroken(context, views);
  const { tasks, complete } = views;
  const seenOf = new Map([...tasks.values()].map(({ at, seen }) => [formatHalves(at.hi, at.lo), seen]));
  kernel.dropCaches();
  const found: HiddenTask[] = [];
  for (const task of suspects) {
    const seen = seenOf.get(formatHalves(task.at.hi, task.at.lo)) ?? 0;
    let missing = expectedViews(task) & complete & ~seen;
    if ((missing & VIEW.numbers) !== 0 && hasNumbers(kernel, task.at)) missing &= ~VIEW.numbers;
    if (missing === 0 || !isSameTask(task, liveTask(kernel, task.at))) continue;
    found.push({ task, missing: namesOf(missing), seen: namesOf(seen) });
  }
  return found;
}

/** Bits of the views that must have a thread, and of those that must have the first thread of a process. */
const EVERY_THREAD = VIEW.threads | VIEW.numbers | VIEW.cgroup;
export const EVERYWHERE = EVERY_THREAD | VIEW.tasks | VIEW.children;

export function expectedViews({ leader }: LiveTask): number {
  return leader ? EVERYWHERE : EVERY_THREAD;
}

function namesOf(bits: number): ViewName[] {
  return (Object.keys(VIEW) as ViewName[]).filter((name) => (VIEW[name] & bits) !== 0);
}

/** "the task list and its thread group" */
export function viewsText(views: readonly ViewName[]): string {
  return views.map((name) => WORDS[name]).join(", ");
}

export interface TaskDescription {
  /** "process 391 (sshd)", "thread 392 of process 391 (sshd)" */
  readonly name: string;
  /** "executable /usr/sbin/sshd, uid 0, started 12.345 s after boot, task_struct 0x…" */
  readonly details: string;
}

export function describeTask({ kernel, budget }: CheckContext, task: LiveTask): TaskDescription {
  const { at, pid, tgid, start } = task;
  const layout = kernel.layout(taskStruct);
  const comm = latin1(readCString(kernel.space, plus(at, layout.comm), TASK_COMM_LEN) ?? new Uint8Array());
  const credentials = readPointer(kernel.space, at, layout.real_cred);
  const uid = credentials && readU32(kernel.space, credentials, kernel.layout(cred).uid);
  const executable = follow(kernel, at, layout.mm, budget, (mm) => {
    const file = readPointer(kernel.space, mm, kernel.layout(mmStruct).exe_file);
    return file === undefined || isNull(file) ? undefined : pathOf(new Paths(kernel, budget), file);
  });
  const path = typeof executable === "string" ? undefined : executable.value;
  const words = [
    executable === "null" ? "a kernel thread" : `executable ${path ?? "unknown"}`,
    `uid ${uid ?? "unknown"}`,
    `started ${(start / 1e9).toFixed(3)} s after boot`,
    `task_struct ${formatHalves(at.hi, at.lo)}`,
  ];
  const name = pid === tgid ? `process ${pid} (${comm})` : `thread ${pid} of process ${tgid} (${comm})`;
  return { name, details: words.join(", ") };
}

function pathOf(paths: Paths, file: Halves): string | undefined {
  const path = paths.ofFile(file);
  return path && Buffer.from(path.bytes).toString() + (path.deleted ? " (deleted)" : "");
}
