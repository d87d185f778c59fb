import type { Halves } from "../bytes/address.ts";
import { FileSystemNames, formatDevice, superBlock } from "../linux/file.ts";
import { follow } from "../linux/follow.ts";
import { isMountOf, mountDevice, mountOptions, mountRoot, mountStruct, walkMounts } from "../linux/mounts.ts";
import { mntNamespace, nsproxy } from "../linux/nsproxy.ts";
import { pathFrom } from "../linux/path.ts";
import { plus, readPointer, readU32 } from "../linux/read.ts";
import { taskStruct } from "../linux/task-struct.ts";
import { CELL } from "./columns.ts";
import { ofEachProcess } from "./each-process.ts";
import { defineTable, integer, type TableContext, text } from "./table.ts";

/** One row a mount of each mount namespace that a process is in: /proc/PID/mountinfo. */
export const mounts = defineTable({
  name: "mounts",
  description: "Mounted file systems, of every mount namespace that has a process",
  columns: {
    device: text("What was mounted, as the mount call named it"),
    path: text("Where it is mounted, from the root of its namespace"),
    type: text("File system"),
    flags: text("Options of the mount, separated by commas: rw or ro first"),
    root: text("What of the file system is mounted: / for all of it, a folder for a bind mount"),
    device_number: text("Device of the file system, major:minor, decimal"),
    id: integer("Number of the mount"),
    parent: integer("Number of the mount that it is on"),
    mnt_namespace: integer("Inode of the mount namespace", { key: true }),
    mount: text("Address of the struct mount"),
  },
  cost: "walk",
  reads: [
    "init_task",
    "task_struct",
    "nsproxy",
    "mnt_namespace.mounts (from 6.8: 2eea9ce4310d; before, mnt_namespace.list)",
    "mount",
    "super_block",
    "dentry",
  ],
  examples: [
    "SELECT path, type, device FROM mounts WHERE flags LIKE 'rw%' AND type NOT IN ('proc', 'sysfs', 'tmpfs')",
    "SELECT mnt_namespace, count(*) AS mounts FROM mounts GROUP BY mnt_namespace",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const { space } = kernel;
    const wanted = context.keys("mnt_namespace");
    const names = new FileSystemNames();
    const layout = kernel.layout(mountStruct);
    let more = true;
    const write = (inode: number, at: Halves): boolean => {
      const block = readPointer(space, at, layout.mnt_sb);
      const root = readPointer(space, at, layout.mnt_root);
      const parent = readPointer(space, at, layout.mnt_parent);
      const device = block && readU32(space, block, kernel.layout(superBlock).s_dev);
      const type = block && names.of(kernel, block);
      const options = out.flags && mountOptions(kernel, at);
      out.device?.pushOr(mountDevice(kernel, at), CELL.unreadable);
      out.path?.pushOr(root && pathFrom(kernel, plus(at, layout.mnt), root, budget)?.bytes, CELL.unreadable);
      if (type === undefined) out.type?.absent(CELL.unreadable);
      else out.type?.push(type);
      if (options === undefined) out.flags?.absent(CELL.unreadable);
      else out.flags?.push(options);
      out.root?.pushOr(out.root && mountRoot(kernel, at, type, budget), CELL.unreadable);
      if (device === undefined) out.device_number?.absent(CELL.unreadable);
      else out.device_number?.push(formatDevice(device));
      out.id?.pushOr(readU32(space, at, layout.mnt_id), CELL.unreadable);
      out.parent?.pushOr(parent && readU32(space, parent, layout.mnt_id), CELL.unreadable);
      out.mnt_namespace?.push(inode);
      out.mount?.pushAddress(at.hi, at.lo);
      return context.row();
    };
    for (const [inode, at] of namespacesOf(context)) {
      if (!more || (wanted !== undefined && !wanted.has(inode))) continue;
      const list = walkMounts(kernel, at, budget);
      context.retried(list.retried);
      if (!list.complete) context.incomplete(`the mounts of namespace ${inode} could not all be followed`);
      for (let i = 0; more && i < list.count; i++) {
        const mount = { hi: list.hi[i]!, lo: list.lo[i]! };
        more = context.unit(
          () => `a mount of namespace ${inode}`,
          () => !isMountOf(kernel, mount, at) || write(inode, mount),
        );
      }
    }
  },
});

/** The mount namespaces of processes, by inode. */
function namespacesOf(context: TableContext): Map<number, Halves> {
  const { kernel, budget } = context;
  const { mnt_ns } = kernel.layout(nsproxy);
  const found = new Map<number, Halves>();
  const all = ofEachProcess(context, (task) => {
    const namespace = follow(kernel, task, kernel.layout(taskStruct).nsproxy, budget, (proxy) =>
      readPointer(kernel.space, proxy, mnt_ns),
    );
    const at = typeof namespace === "string" ? undefined : namespace.value;
    return { at, inode: at && readU32(kernel.space, at, kernel.layout(mntNamespace).inum) };
  });
  for (const { at, inode } of all) {
    if (at !== undefined && inode !== undefined && !found.has(inode)) found.set(inode, at);
  }
  return found;
}
