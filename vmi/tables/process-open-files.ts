import type { Halves } from "../bytes/address.ts";
import { isOpen, walkOpenFiles } from "../linux/fd-table.ts";
import {
  FileSystemNames,
  fileStruct,
  formatDevice,
  type InodeFacts,
  inodeFacts,
  kindOf,
  openMode,
} from "../linux/file.ts";
import { linkOf } from "../linux/file-link.ts";
import { follow } from "../linux/follow.ts";
import { Memo } from "../linux/memo.ts";
import { Paths } from "../linux/path.ts";
import { plus, readInteger, readU32 } from "../linux/read.ts";
import { taskFiles } from "../linux/task-struct.ts";
import { CELL } from "./columns.ts";
import { eachProcess } from "./each-process.ts";
import { defineTable, integer, text } from "./table.ts";

/** What all descriptors of one struct file have in common. */
interface Described {
  readonly facts: InodeFacts | undefined;
  readonly path: Uint8Array | undefined;
  readonly deleted: number | undefined;
  readonly kind: string | undefined;
  readonly device: string | undefined;
}

/** One row an open descriptor: /proc/PID/fd and fdinfo. */
export const processOpenFiles = defineTable({
  name: "process_open_files",
  description: "Files, sockets and the like that processes have open",
  columns: {
    pid: integer("Process (thread group) id", { key: true }),
    fd: integer("Descriptor"),
    path: text("Path, or what /proc/PID/fd shows: socket:[inode], pipe:[inode], anon_inode:[eventpoll], /memfd:name"),
    kind: text("regular, directory, character, block, fifo, socket, link or anonymous"),
    inode: integer("Inode"),
    device: text("Device of the file system, major:minor, decimal"),
    size: integer("Size of the file, bytes"),
    position: integer("Where the next read or write goes, bytes"),
    flags: integer("Flags of open(2) and fcntl(2)"),
    mode: text("r, w or rw; absent for a descriptor that only names a file (O_PATH)"),
    deleted: integer("1 when its name has been removed since, or it never had one in a directory"),
    file: text("Address of the struct file: descriptors that share one share its position"),
  },
  cost: "walk",
  reads: ["init_task", "task_struct", "files_struct", "fdtable", "file", "inode", "super_block", "dentry", "mount"],
  examples: [
    "SELECT pid, fd, path FROM process_open_files WHERE deleted = 1 AND kind = 'regular'",
    "SELECT p.name, f.path FROM process_open_files f JOIN processes p USING (vm, pid) WHERE f.path LIKE '/dev/%'",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const { space } = kernel;
    const { files } = kernel.layout(taskFiles);
    const layout = kernel.layout(fileStruct);
    const names = new FileSystemNames();
    const paths = new Paths(kernel, budget);
    const known = new Memo<Described>(kernel);
    const wantsPath = out.path ?? out.deleted;
    const wantsInode = out.path ?? out.kind ?? out.inode ?? out.device ?? out.size;
    const describe = (file: Halves): Described => {
      const facts = wantsInode ? inodeFacts(kernel, file) : undefined;
      const path = wantsPath ? paths.ofFile(file) : undefined;
      return {
        facts,
        path: linkOf(kernel, facts, path, names),
        deleted: path && Number(path.deleted),
        kind: facts && out.kind ? kindOf(kernel, facts, names) : undefined,
        device: facts?.device === undefined ? undefined : formatDevice(facts.device),
      };
    };
    eachProcess(context, (at, pid, last) => {
      const read = (filesAt: Halves) => {
        const open: { fd: number; file: { hi: number; lo: number } }[] = [];
        const complete = walkOpenFiles(kernel, filesAt, budget, (fd, file) => open.push({ fd, file }) > 0);
        return { filesAt, open, complete };
      };
      const found = follow(kernel, at, files, budget, read);
      // A zombie has given them up.
      if (found === "null") return true;
      if (typeof found === "string" || !found.value.complete)
        context.incomplete(`the open files of process ${pid} can't all be read`);
      if (typeof found === "string") return true;
      for (const { fd, file } of found.value.open) {
        // Closed since: what it was may be another's by now.
        if (last && !isOpen(kernel, found.value.filesAt, fd, file)) continue;
        // Forked processes share them.
        const { facts, path, deleted, kind, device } = known.of(file, () => describe(file));
        const flags = (out.flags ?? out.mode) ? readU32(space, file, layout.f_flags) : undefined;
        out.pid?.push(pid);
        out.fd?.push(fd);
        out.path?.pushOr(path, CELL.unreadable);
        if (kind === undefined) out.kind?.absent(CELL.unreadable);
        else out.kind?.push(kind);
        out.inode?.pushOr(facts?.number, CELL.unreadable);
        if (device === undefined) out.device?.absent(CELL.unreadable);
        else out.device?.push(device);
        out.size?.pushOr(facts?.size, CELL.unreadable);
        out.position?.pushOr(out.position && readInteger(space, plus(file, layout.f_pos)), CELL.unreadable);
        out.flags?.pushOr(flags, CELL.unreadable);
        const mode = flags === undefined ? undefined : openMode(flags);
        if (mode === undefined) out.mode?.absent(flags === undefined ? CELL.unreadable : CELL.notApplicable);
        else out.mode?.push(mode);
        out.deleted?.pushOr(deleted, CELL.unreadable);
        out.file?.pushAddress(file.hi, file.lo);
        if (!context.row()) return false;
      }
      return true;
    });
  },
});
