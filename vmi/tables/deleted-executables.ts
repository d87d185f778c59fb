import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import { formatDevice, inodeFacts, inodeOf, openedInode } from "../linux/file.ts";
import { follow } from "../linux/follow.ts";
import type { Kernel } from "../linux/kernel.ts";
import { mmStruct } from "../linux/mm.ts";
import { cachedPages } from "../linux/page-cache.ts";
import { Paths } from "../linux/path.ts";
import { isNull, plus, readCString, readPointer, sameAddress } from "../linux/read.ts";
import { TASK_COMM_LEN, taskStruct } from "../linux/task-struct.ts";
import { walkVmas } from "../linux/vma.ts";
import { CELL } from "./columns.ts";
import { eachProcess } from "./each-process.ts";
import { defineTable, integer, text } from "./table.ts";

/** One row a process whose program has no name in any directory: removed since it was started, or only ever in memory. */
export const deletedExecutables = defineTable({
  name: "deleted_executables",
  description: "Processes whose executable has been deleted or was never on a disk",
  columns: {
    pid: integer("Process (thread group) id", { key: true }),
    name: text("The name that the kernel keeps (comm)"),
    path: text("Path that the executable had, or /memfd:name"),
    in_memory: integer("1 when it never had a name in a directory (memfd, shared memory)"),
    inode: integer(
      "Inode of the executable: file_contents gives its content. On an overlay the overlay's: that of the layer, which has the " +
        "content, has the same number where all layers are on one file system",
    ),
    device: text("Device of its file system, major:minor, decimal"),
    size: integer("Size, bytes"),
    cached_pages: integer("Pages of 4 KiB of it in memory"),
  },
  cost: "walk",
  reads: ["init_task", "task_struct", "mm_struct.exe_file", "file", "inode", "address_space", "dentry", "mount"],
  examples: ["SELECT pid, name, path, in_memory FROM deleted_executables"],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const { space } = kernel;
    const { mm, comm } = kernel.layout(taskStruct);
    const { exe_file } = kernel.layout(mmStruct);
    const paths = new Paths(kernel, budget);
    eachProcess(context, (task, pid) => {
      const found = follow(kernel, task, mm, budget, (mmAt) => {
        const exe = readPointer(space, mmAt, exe_file);
        if (exe === undefined || isNull(exe)) return undefined;
        const path = paths.ofFile(exe);
        if (!path?.deleted) return undefined;
        const facts = inodeFacts(kernel, exe);
        const content = out.cached_pages && contentOf(kernel, mmAt, exe, budget);
        return { path, facts, cached: content && cachedPages(kernel, content) };
      });
      if (found === "torn" || found === "unreadable")
        context.incomplete(`the executable of process ${pid} can't be read`);
      const hit = typeof found === "string" ? undefined : found.value;
      if (hit === undefined) return true;
      const { path, facts, cached } = hit;
      out.pid?.push(pid);
      out.name?.pushOr(out.name && readCString(space, plus(task, comm), TASK_COMM_LEN), CELL.unreadable);
      out.path?.pushBytes(path.bytes);
      out.in_memory?.push(Number(path.rootless));
      out.inode?.pushOr(facts?.number, CELL.unreadable);
      if (facts?.device === undefined) out.device?.absent(CELL.unreadable);
      else out.device?.push(formatDevice(facts.device));
      out.size?.pushOr(facts?.size, CELL.unreadable);
      out.cached_pages?.pushOr(cached, CELL.unreadable);
      return context.row();
    });
  },
});

/** The inode that has the pages of a process's program: of one on an overlay, that of the file below, which is mapped. */
function contentOf(kernel: Kernel, mm: Halves, exe: Halves, budget: Budget): Halves | undefined {
  const program = inodeOf(kernel, exe);
  const { areas } = walkVmas(kernel, mm, budget);
  const mapped = areas.find(({ file }) => {
    const opened = file && openedInode(kernel, file);
    return opened !== undefined && program !== undefined && sameAddress(opened, program);
  });
  return mapped?.file === undefined ? program : inodeOf(kernel, mapped.file);
}
