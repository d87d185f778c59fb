import { deletedExecutables } from "../tables/deleted-executables.ts";
import { defineCheck } from "./check.ts";

export const deletedExecutable = defineCheck({
  name: "deleted-executable",
  severity: "medium",
  cost: "walk",
  compares:
    "The file that each process runs (mm_struct.exe_file) with its directory: one that has been removed since, or was " +
    "never in a directory (memfd, shared memory), leaves nothing to look at on the disk.",
  misses:
    "A program that was replaced by an upgrade while it ran is found too: restart it; so are container runtimes (runc, lxc), " +
    "which run from a memfd while a container starts. An interpreter that runs a deleted script is not found, nor a program " +
    "that was mapped by a loader of its own: see injected-memory.",
  confirm:
    "In the guest, ls -l /proc/PID/exe says (deleted). The program's pages that are in memory are given by file_contents " +
    "with the inode that is told.",
  reads: ["init_task", "task_struct", "mm_struct.exe_file", "file", "inode", "dentry"],
  look: (context) => {
    for (const { pid, name, path, in_memory, inode, size } of context.rows(deletedExecutables)) {
      context.report({
        what: `process ${pid} (${name}) runs ${in_memory ? "a program that was never on a disk" : "a deleted program"}, ${path}`,
        where: `process ${pid} (${name})`,
        evidence: `${path}, inode ${inode}, ${size} bytes`,
        expected: "a program that is in a directory",
        identity: `${name} ${path}`,
        severity: in_memory ? "high" : "medium",
        pid: pid as number,
      });
    }
  },
});
