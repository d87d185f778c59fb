import { type Halves, numberOf } from "../bytes/address.ts";
import { AddressMap } from "../bytes/address-map.ts";
import { sonameOf } from "../linux/elf.ts";
import { inodeFacts, openedInode } from "../linux/file.ts";
import { follow } from "../linux/follow.ts";
import type { Kernel } from "../linux/kernel.ts";
import { mmStruct, userSpace } from "../linux/mm.ts";
import { Paths } from "../linux/path.ts";
import { readPointer, sameAddress } from "../linux/read.ts";
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
    inode: integer("Inode of the file, as in process_memory_map"),
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
    "backing_file.user_path (from 6.7: def3ae83da02; before, file.f_path)",
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
        const program = exe && openedInode(kernel, exe);
        const files = filesOf(kernel, walk.areas);
        const space = out.soname && userSpace(kernel, mmAt);
        if (space !== undefined) for (const file of files) file.soname = sonameOf(space, file.start, budget);
        return { mmAt, complete: walk.complete, program, files };
      };
      const found = follow(kernel, task, mm, budget, read);
      if (found === "null") return true;
      if (typeof found === "string" || !found.value.complete)
        context.incomplete(`the memory map of process ${pid} kept changing or can't be read whole`);
      if (typeof found === "string") return true;
      const { program, files } = found.value;
      for (const { area, inode, start, end, soname } of files) {
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
        out.program?.push(program !== undefined && sameAddress(inode, program) ? 1 : 0);
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
  readonly inode: Halves;
  readonly start: number;
  end: number;
  hasCode: boolean;
  soname: Uint8Array | "none" | undefined;
}

/** The files of which code is mapped, by what was opened: the mappings of one file may have a struct file each. */
function filesOf(kernel: Kernel, areas: readonly Vma[]): MappedFile[] {
  const files: MappedFile[] = [];
  const byInode = new AddressMap<MappedFile>();
  let last: Vma | undefined;
  let inode: Halves | undefined;
  for (const area of areas) {
    if (area.file === undefined) continue;
    // Mostly those of one file follow one another.
    if (last?.file === undefined || !sameAddress(last.file, area.file)) inode = openedInode(kernel, area.file);
    last = area;
    if (inode === undefined) continue;
    let file = byInode.get(inode);
    if (file === undefined) {
      const start = numberOf(area.start.hi, area.start.lo);
      file = { area, inode, start, end: 0, hasCode: false, soname: undefined };
      byInode.set(inode, file);
      files.push(file);
    }
    file.end = numberOf(area.end.hi, area.end.lo);
    file.hasCode ||= (area.flags & VM.EXEC) !== 0;
  }
  return files.filter(({ hasCode }) => hasCode);
}
