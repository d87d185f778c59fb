import { type Halves, numberOf, signedNumberOf } from "../bytes/address.ts";
import { sonameOf } from "../linux/elf.ts";
import { inodeFacts, inodeOf } from "../linux/file.ts";
import { follow } from "../linux/follow.ts";
import type { Kernel } from "../linux/kernel.ts";
import { mmStruct, userSpace } from "../linux/mm.ts";
import { Paths } from "../linux/path.ts";
import { readPointer } from "../linux/read.ts";
import { taskStruct } from "../linux/task-struct.ts";
import { isMapped, VM, type Vma, walkVmas } from "../linux/vma.ts";
import { CELL } from "./columns.ts";
import { eachProcess } from "./each-process.ts";
import { defineTable, integer, text } from "./table.ts";

/** One row a file of which a process has code mapped: its program, the loader and the libraries. */
export const processLibraries = defineTable({
  name: "process_libraries",
  description: "Program and libraries that processes have mapped, whatever their own lists of them say",
  columns: {
    pid: integer("Process (thread group) id", { key: true }),
    path: text("Path of the file"),
    soname: text("Name that the library gives itself (DT_SONAME), read from the process's memory"),
    start: text("Where it is mapped from"),
    size: integer("Bytes from there to the end of its last mapping"),
    inode: integer("Inode of the file"),
    program: integer("1 for the process's own executable"),
    deleted: integer("1 when the file's name has been removed since, or it never had one"),
  },
  cost: "walk",
  reads: [
    "init_task",
    "task_struct",
    "mm_struct",
    "vm_area_struct",
    "file",
    "inode",
    "dentry",
    "the process's own memory",
  ],
  examples: [
    "SELECT pid, path FROM process_libraries WHERE deleted = 1",
    "SELECT soname, count(DISTINCT pid) AS processes FROM process_libraries GROUP BY soname ORDER BY processes DESC",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const { mm } = kernel.layout(taskStruct);
    const { exe_file } = kernel.layout(mmStruct);
    const paths = new Paths(kernel, budget);
    eachProcess(context, (task, pid, last) => {
      const read = (mmAt: Halves) => {
        const walk = walkVmas(kernel, mmAt, budget);
        context.retried(walk.retried);
        const exe = readPointer(kernel.space, mmAt, exe_file);
        const program = exe && inodeOf(kernel, exe);
        const space = out.soname && userSpace(kernel, mmAt);
        return {
          mmAt,
          complete: walk.complete,
          program: program && keyOf(program),
          files: filesOf(kernel, walk.areas).map((file) => ({
            ...file,
            soname: space && sonameOf(space, file.start, budget),
          })),
        };
      };
      const found = follow(kernel, task, mm, budget, read);
      if (found === "null") return true;
      if (typeof found === "string" || !found.value.complete)
        context.incomplete(`the memory map of process ${pid} kept changing or can't be read whole`);
      if (typeof found === "string") return true;
      for (const { area, key, start, end, soname } of found.value.files) {
        const file = area.file as Halves;
        if (last && !isMapped(kernel, found.value.mmAt, area, budget)) continue;
        const path = (out.path ?? out.deleted) ? paths.ofFile(file) : undefined;
        out.pid?.push(pid);
        out.path?.pushOr(path?.bytes, CELL.unreadable);
        if (soname === "none") out.soname?.absent(CELL.notApplicable);
        else out.soname?.pushOr(soname, CELL.unreadable);
        out.start?.pushAddress(area.start.hi, area.start.lo);
        out.size?.pushOr(end - start, CELL.unreadable);
        out.inode?.pushOr(out.inode && inodeFacts(kernel, file)?.number, CELL.unreadable);
        out.program?.push(Number(key === found.value.program));
        out.deleted?.pushOr(path && Number(path.deleted), CELL.unreadable);
        if (!context.row()) return false;
      }
      return true;
    });
  },
});

interface MappedFile {
  /** The lowest mapping of the file. */
  readonly area: Vma;
  readonly key: number;
  readonly start: number;
  end: number;
}

/** The files of which code is mapped, by their inodes: the mappings of one file may have a struct file each. */
function filesOf(kernel: Kernel, areas: readonly Vma[]): MappedFile[] {
  const files = new Map<number, MappedFile & { code: boolean }>();
  for (const area of areas) {
    const inode = area.file && inodeOf(kernel, area.file);
    if (inode === undefined) continue;
    const key = keyOf(inode);
    const known = files.get(key) ?? { area, key, start: numberOf(area.start.hi, area.start.lo), end: 0, code: false };
    known.end = numberOf(area.end.hi, area.end.lo);
    known.code ||= (area.flags & VM.EXEC) !== 0;
    files.set(key, known);
  }
  return [...files.values()].filter(({ code }) => code);
}

/** Kernel addresses are exact enough as numbers to tell inodes apart. */
const keyOf = ({ hi, lo }: Halves) => signedNumberOf(hi, lo);
