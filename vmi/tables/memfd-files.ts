import type { Halves } from "../bytes/address.ts";
import { isOpen, walkOpenFiles } from "../linux/fd-table.ts";
import { inodeFacts } from "../linux/file.ts";
import { type Followed, follow } from "../linux/follow.ts";
import { MEMFD_PREFIX, sealsOf } from "../linux/memfd.ts";
import { mmStruct } from "../linux/mm.ts";
import { cachedPages } from "../linux/page-cache.ts";
import { Paths } from "../linux/path.ts";
import { isNull, readPointer } from "../linux/read.ts";
import { taskFiles, taskStruct } from "../linux/task-struct.ts";
import { isMapped, walkVmas } from "../linux/vma.ts";
import { CELL } from "./columns.ts";
import { eachProcess } from "./each-process.ts";
import { defineTable, integer, text } from "./table.ts";

/** One row a way in which a process holds a file that is in memory only (memfd_create(2)): open, mapped, or as its program. */
export const memfdFiles = defineTable({
  name: "memfd_files",
  description: "Files in memory only (memfd_create(2)), and how processes hold them",
  columns: {
    pid: integer("Process (thread group) id", { key: true }),
    held: text("open, mapped, or executable for the program that the process runs"),
    fd: integer("Descriptor, when it is open"),
    name: text("The name that it was given"),
    inode: integer("Inode: file_contents gives its content"),
    size: integer("Size, bytes"),
    cached_pages: integer("Pages of 4 KiB in memory"),
    seals: text("seal, shrink, grow, write, future_write or exec, separated by commas"),
  },
  cost: "walk",
  reads: [
    "init_task",
    "task_struct",
    "files_struct",
    "mm_struct",
    "vm_area_struct",
    "file",
    "shmem_inode_info",
    "hugetlbfs_inode_info",
  ],
  examples: [
    "SELECT pid, held, name, size FROM memfd_files",
    "SELECT pid, name FROM memfd_files WHERE held = 'executable'",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const { mm } = kernel.layout(taskStruct);
    const { files } = kernel.layout(taskFiles);
    const { exe_file } = kernel.layout(mmStruct);
    const paths = new Paths(kernel, budget);
    eachProcess(context, (task, pid, last) => {
      const row = (held: string, file: Halves, fd: number | undefined): boolean => {
        const path = paths.ofFile(file);
        if (!path?.rootless || !MEMFD_PREFIX.equals(path.bytes.subarray(0, MEMFD_PREFIX.length))) return true;
        const facts = inodeFacts(kernel, file);
        const seals = facts && out.seals ? sealsOf(kernel, facts.at) : undefined;
        out.pid?.push(pid);
        out.held?.push(held);
        out.fd?.pushOr(fd, CELL.notApplicable);
        out.name?.pushBytes(path.bytes.subarray(MEMFD_PREFIX.length));
        out.inode?.pushOr(facts?.number, CELL.unreadable);
        out.size?.pushOr(facts?.size, CELL.unreadable);
        out.cached_pages?.pushOr(facts && out.cached_pages && cachedPages(kernel, facts.at), CELL.unreadable);
        if (seals === undefined) out.seals?.absent(CELL.unreadable);
        else out.seals?.push(seals);
        return context.row();
      };
      const readFiles = (at: Halves) => {
        const found: { fd: number; file: Halves }[] = [];
        const complete = walkOpenFiles(kernel, at, budget, (fd, file) => found.push({ fd, file }) > 0);
        return { at, found, complete };
      };
      const readMemory = (at: Halves) => {
        const { areas, complete, retried } = walkVmas(kernel, at, budget);
        context.retried(retried);
        return { at, areas, complete };
      };
      const open = follow(kernel, task, files, budget, readFiles);
      const memory = follow(kernel, task, mm, budget, readMemory);
      if (isBroken(open) || isBroken(memory)) context.incomplete(`the files of process ${pid} can't all be read`);
      if (typeof open !== "string") {
        for (const { fd, file } of open.value.found) {
          // Closed since: what it was may be another's by now.
          if (last && !isOpen(kernel, open.value.at, fd, file)) continue;
          if (!row("open", file, fd)) return false;
        }
      }
      if (typeof memory === "string") return true;
      const { at, areas } = memory.value;
      const exe = readPointer(kernel.space, at, exe_file);
      if (exe !== undefined && !isNull(exe) && !row("executable", exe, undefined)) return false;
      const seen = new Set<string>();
      for (const area of areas) {
        const { file } = area;
        const key = file && `${file.hi}:${file.lo}`;
        if (file === undefined || key === undefined || seen.has(key)) continue;
        if (last && !isMapped(kernel, at, area, budget)) continue;
        seen.add(key);
        if (!row("mapped", file, undefined)) return false;
      }
      return true;
    });
  },
});

function isBroken(found: Followed<{ complete: boolean }>): boolean {
  return typeof found === "string" ? found !== "null" : !found.value.complete;
}
