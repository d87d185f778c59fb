import type { Halves } from "../bytes/address.ts";
import { type Integer, product } from "../bytes/integer.ts";
import { formatDevice, inodeFacts } from "../linux/file.ts";
import { follow } from "../linux/follow.ts";
import { Memo } from "../linux/memo.ts";
import { Paths, type ResolvedPath } from "../linux/path.ts";
import { taskStruct } from "../linux/task-struct.ts";
import { boundsOf, describeVma, isMapped, permissionsOf, walkVmas } from "../linux/vma.ts";
import { CELL } from "./columns.ts";
import { eachProcess } from "./each-process.ts";
import { defineTable, integer, text } from "./table.ts";

const PAGE = 4096;

/** One row an area of a process's memory: /proc/PID/maps, but for [vsyscall], which is the kernel's own. */
export const processMemoryMap = defineTable({
  name: "process_memory_map",
  description: "What is mapped into the memory of processes",
  columns: {
    pid: integer("Process (thread group) id", { key: true }),
    start: text("First address"),
    end: text("First address behind it"),
    permissions: text("r, w and x, or - for each that is denied; s shared or p private"),
    offset: integer("Where in the file it begins, bytes"),
    device: text("Device of the file that has this inode, major:minor, decimal; 0:0 without a file"),
    inode: integer(
      "Inode of the file; 0 without a file. On an overlay the overlay's, and before Linux 6.7 the layer's",
    ),
    path: text("Path of the file, or [heap], [stack], [vdso] and the like; absent for nameless memory"),
    pseudo: integer("1 when the path is none of a file"),
    kind: text("file, anonymous, heap, stack or special (the kernel's: vdso, vvar)"),
    deleted: integer("1 when the file's name has been removed since, or it never had one (memfd, shared memory)"),
  },
  cost: "walk",
  reads: [
    "init_task",
    "task_struct",
    "mm_struct.mm_mt, maple_node (from 6.1: 524e00b36e8c; before, mm_struct.mmap and vm_area_struct.vm_next)",
    "vm_area_struct",
    "file, inode, dentry, mount",
    "backing_file.user_path (from 6.7: def3ae83da02; before, file.f_path)",
  ],
  examples: [
    "SELECT pid, start, end, path FROM process_memory_map WHERE permissions LIKE '%wx%'",
    "SELECT DISTINCT pid, path FROM process_memory_map WHERE deleted = 1 AND permissions LIKE '__x%'",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const task = kernel.layout(taskStruct);
    const wantsFile = out.path ?? out.deleted ?? out.pseudo;
    const wantsKind = out.path ?? out.kind ?? out.pseudo;
    const paths = new Paths(kernel, budget);
    const specials = new Memo<Uint8Array | undefined>(kernel);
    const files = new Memo<MappedFile>(kernel);
    const fileOf = (at: Halves) =>
      files.of(at, () => {
        const inode = (out.device ?? out.inode) && inodeFacts(kernel, at);
        const device = inode?.device === undefined ? undefined : formatDevice(inode.device);
        return { path: wantsFile && paths.ofFile(at), number: inode?.number, device };
      });
    eachProcess(context, (at, pid, last) => {
      const read = (mm: Halves) => {
        const { areas, complete, retried } = walkVmas(kernel, mm, budget);
        context.retried(retried);
        return { mm, areas, complete, bounds: boundsOf(kernel, mm) };
      };
      const found = follow(kernel, at, task.mm, budget, read);
      if (found === "null") return true;
      if (typeof found === "string" || !found.value.complete)
        context.incomplete(`the memory map of process ${pid} kept changing or can't be read whole`);
      if (typeof found === "string") return true;
      const { mm, areas, bounds } = found.value;
      for (const area of areas) {
        if (last && !isMapped(kernel, mm, area, budget)) continue;
        const { kind, name } = wantsKind ? describeVma(kernel, bounds, area, specials) : UNASKED;
        const file = area.file && fileOf(area.file);
        out.pid?.push(pid);
        out.start?.pushAddress(area.start.hi, area.start.lo);
        out.end?.pushAddress(area.end.hi, area.end.lo);
        out.permissions?.push(permissionsOf(area));
        out.offset?.pushOr(area.file === undefined ? 0 : product(area.pageOffset, PAGE), CELL.unreadable);
        if (file === undefined) {
          out.device?.push("0:0");
          out.inode?.push(0);
          out.path?.pushOr(name, CELL.notApplicable);
          out.deleted?.absent(CELL.notApplicable);
        } else {
          if (file.device === undefined) out.device?.absent(CELL.unreadable);
          else out.device?.push(file.device);
          out.inode?.pushOr(file.number, CELL.unreadable);
          out.path?.pushOr(file.path?.bytes, CELL.unreadable);
          out.deleted?.pushOr(file.path && Number(file.path.deleted), CELL.unreadable);
        }
        out.pseudo?.push(area.file === undefined && name !== undefined ? 1 : 0);
        out.kind?.push(kind);
        if (!context.row()) return false;
      }
      return true;
    });
  },
});

interface MappedFile {
  readonly path: ResolvedPath | undefined;
  /** Of its inode, and the device as text. */
  readonly number: Integer | undefined;
  readonly device: string | undefined;
}

const UNASKED = { kind: "anonymous", name: undefined } as const;
