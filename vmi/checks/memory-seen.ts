import type { Halves } from "../bytes/address.ts";
import { openedInode } from "../linux/file.ts";
import { mmCode, mmStruct } from "../linux/mm.ts";
import { Paths, type ResolvedPath } from "../linux/path.ts";
import { processMember } from "../linux/process-member.ts";
import { isNull, latin1, plus, readCString, readPointer, readU32, sameAddress } from "../linux/read.ts";
import { PF_KTHREAD, TASK_COMM_LEN, taskStruct } from "../linux/task-struct.ts";
import { readProcesses } from "../linux/tasks.ts";
import { VM, type Vma, walkVmas } from "../linux/vma.ts";
import type { CheckContext } from "./check.ts";

/** A file of which a process may run code. */
export interface CodeFile {
  readonly path: string;
  /** Its name has been removed. */
  readonly deleted: boolean;
  /** It never had one: memfd, shared memory. */
  readonly rootless: boolean;
  /** The first mapping of it that may be executed. */
  readonly area: Vma;
}

/** What a process may run. */
export interface SeenMemory {
  readonly pid: number;
  readonly name: string;
  readonly task: Halves;
  readonly mm: Halves;
  /** Of its executable; undefined where that can't be read. */
  readonly path: string | undefined;
  /** False while execve() is under way: names and executable are those of two programs then. */
  readonly started: boolean;
  /** False when the file that is named as its executable is mapped nowhere. */
  readonly runsItsExecutable: boolean;
  /** Areas that may be executed, and in which there may be pages of the process's own. */
  readonly own: readonly Vma[];
  readonly files: readonly CodeFile[];
}

/** What every process may run: for CheckContext.shared. */
export function memorySeen(context: CheckContext): readonly SeenMemory[] {
  const { kernel, budget } = context;
  const { comm, mm, flags } = kernel.layout(taskStruct);
  const paths = new Paths(kernel, budget);
  const { values, complete, torn } = readProcesses(kernel, budget, (task, pid) => {
    const at = processMember(kernel, task, mm, budget);
    // A thread of the kernel borrows a process's memory at times.
    const kernelThread = ((readU32(kernel.space, task, flags) ?? 0) & PF_KTHREAD) !== 0;
    if (at === undefined || isNull(at) || kernelThread) return undefined;
    const name = latin1(readCString(kernel.space, plus(task, comm), TASK_COMM_LEN) ?? new Uint8Array(0));
    return { pid, name, task, mm: at, ...readMemory(context, at, paths, pid) };
  });
  if (!complete) context.incomplete("the task list could not be followed to its end");
  if (torn > 0) context.incomplete(`processes kept changing while they were read: ${torn}`);
  return values.filter((seen) => seen !== undefined);
}

function readMemory(context: CheckContext, mm: Halves, paths: Paths, pid: number) {
  const { kernel, budget } = context;
  const { space } = kernel;
  const { areas, complete } = walkVmas(kernel, mm, budget);
  if (!complete) context.incomplete(`the memory map of process ${pid} kept changing or can't be read whole`);
  const exe = readPointer(space, mm, kernel.layout(mmStruct).exe_file);
  const executable = exe === undefined || isNull(exe) ? undefined : exe;
  const text = readPointer(space, mm, kernel.layout(mmCode).start_code);
  const started = text !== undefined && !isNull(text);
  const files = new Map<string, CodeFile>();
  const own: Vma[] = [];
  let runs = !complete || executable === undefined || !started;
  for (const area of areas) {
    const { file, flags } = area;
    if (file !== undefined && executable !== undefined) runs ||= sameAddress(file, executable);
    if ((flags & VM.EXEC) === 0) continue;
    if (area.mayHaveOwnPages || file === undefined) own.push(area);
    const path = file && paths.ofFile(file);
    if (path === undefined) continue;
    const key = `${path.deleted} ${latin1(path.bytes)}`;
    if (!files.has(key)) files.set(key, { ...textOf(path), area });
  }
  const path = executable && paths.ofFile(executable);
  runs ||= executable !== undefined && path !== undefined && mapsInode(context, executable, areas);
  return { path: path && textOf(path).path, started, runsItsExecutable: runs, own, files: [...files.values()] };
}

/** The slow way, for those of which no mapping is of the very struct file: it may be of another of the same inode. */
function mapsInode({ kernel }: CheckContext, executable: Halves, areas: readonly Vma[]): boolean {
  const inode = openedInode(kernel, executable);
  if (inode === undefined) return true;
  return areas.some(({ file }) => {
    const mapped = file && openedInode(kernel, file);
    return mapped !== undefined && sameAddress(mapped, inode);
  });
}

function textOf({ bytes, deleted, rootless }: ResolvedPath): { path: string; deleted: boolean; rootless: boolean } {
  return { path: Buffer.from(bytes).toString(), deleted, rootless };
}
