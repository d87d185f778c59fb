import type { Halves } from "../bytes/address.ts";
import { FileSystemNames, formatDevice, superBlock } from "../linux/file.ts";
import { follow } from "../linux/follow.ts";
import {
  blockDeviceName,
  isMountOf,
  mountDevice,
  mountFlags,
  mountOptions,
  mountPointName,
  mountRoot,
  mountStruct,
  walkMounts,
} from "../linux/mounts.ts";
import { mntNamespace, nsproxy } from "../linux/nsproxy.ts";
import { pathFrom } from "../linux/path.ts";
import { plus, readPointer, readU32 } from "../linux/read.ts";
import { statFs } from "../linux/statfs.ts";
import { taskStruct } from "../linux/task-struct.ts";
import { CELL, type TextColumn } from "./columns.ts";
import { ofEachProcess } from "./each-process.ts";
import { defineTable, integer, type TableContext, text } from "./table.ts";

const ONLY =
  "; told of tmpfs, and of file systems without blocks such as proc: others keep their counts where only they know";

/** One row a mount of each mount namespace that a process is in: /proc/PID/mountinfo. */
export const mounts = defineTable({
  name: "mounts",
  description: "Mounted file systems, of every mount namespace that has a process",
  columns: {
    device: text("What was mounted, as the mount call named it"),
    device_alias: text(
      "The block device, by the name that the kernel has for it: what a symbolic link such as /dev/mapper/data leads to",
    ),
    path: text("Where it is mounted, from the root of its namespace", { key: true }),
    type: text("File system"),
    blocks_size: integer(`Bytes of a block${ONLY}`),
    blocks: integer("Blocks that it has; 0 for no limit; see blocks_size"),
    blocks_free: integer("Blocks that are free; see blocks_size"),
    blocks_available: integer("Blocks that are free to others than root; see blocks_size"),
    inodes: integer("Inodes that it can have; 0 for no limit; see blocks_size"),
    inodes_free: integer("Inodes that are free; see blocks_size"),
    flags: text(
      "Options, separated by commas: ro when mount or file system are read-only, or rw; then those of the file system " +
        "that all have (sync, dirsync, lazytime), then those of the mount, as /proc/mounts has them",
    ),
    mount_flags: text("Options of the mount alone: rw or ro first"),
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
    "super_block, super_operations, shmem_sb_info",
    "block_device (with its device from 5.11: 0d02129e76ed)",
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
    const paths = context.textKeys("path");
    const lastNames = paths && new Set([...paths].map((path) => path.slice(path.lastIndexOf("/") + 1)));
    const names = new FileSystemNames();
    const layout = kernel.layout(mountStruct);
    const wantsSizes =
      out.blocks_size ?? out.blocks ?? out.blocks_free ?? out.blocks_available ?? out.inodes ?? out.inodes_free;
    let more = true;
    const write = (inode: number, at: Halves): boolean => {
      if (lastNames !== undefined) {
        const name = mountPointName(kernel, at);
        if (name !== undefined && !(name.length === 1 && name[0] === SLASH) && !lastNames.has(utf8(name))) return true;
      }
      const root = readPointer(space, at, layout.mnt_root);
      const path = out.path && root && pathFrom(kernel, plus(at, layout.mnt), root, budget)?.bytes;
      if (paths !== undefined && (path === undefined || !paths.has(utf8(path)))) return true;
      const block = readPointer(space, at, layout.mnt_sb);
      const parent = readPointer(space, at, layout.mnt_parent);
      const device = block && readU32(space, block, kernel.layout(superBlock).s_dev);
      const type = block && names.of(kernel, block);
      out.device?.pushOr(mountDevice(kernel, at), CELL.unreadable);
      const alias = block && out.device_alias && blockDeviceName(kernel, block);
      if (alias === "none") out.device_alias?.absent(CELL.notApplicable);
      else if (alias === "unsupported") out.device_alias?.absent(CELL.unsupported);
      else out.device_alias?.pushOr(alias && Buffer.concat([DEVICES, alias]), CELL.unreadable);
      out.path?.pushOr(path, CELL.unreadable);
      pushText(out.type, type);
      const sizes = block && wantsSizes && statFs(kernel, block);
      const known = sizes === "unsupported" ? undefined : sizes;
      const state = sizes === "unsupported" ? CELL.unsupported : CELL.unreadable;
      out.blocks_size?.pushOr(known?.blockSize, state);
      out.blocks?.pushOr(known?.blocks, state);
      out.blocks_free?.pushOr(known?.blocksFree, state);
      // tmpfs keeps none back for root.
      out.blocks_available?.pushOr(known?.blocksFree, state);
      out.inodes?.pushOr(known?.inodes, state);
      out.inodes_free?.pushOr(known?.inodesFree, state);
      pushText(out.flags, out.flags && block && mountFlags(kernel, at, block));
      pushText(out.mount_flags, out.mount_flags && mountOptions(kernel, at));
      out.root?.pushOr(out.root && mountRoot(kernel, at, type, budget), CELL.unreadable);
      pushText(out.device_number, device === undefined ? undefined : formatDevice(device));
      out.id?.pushOr(readU32(space, at, layout.mnt_id), CELL.unreadable);
      out.parent?.pushOr(parent && readU32(space, parent, layout.mnt_id), CELL.unreadable);
      out.mnt_namespace?.push(inode);
      out.mount?.pushAddress(at.hi, at.lo);
      return context.row();
    };
    for (const [inode, at] of namespacesOf(context, wanted)) {
      if (!more) break;
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

const SLASH = 0x2f;
const DEVICES = Buffer.from("/dev/");
const utf8 = (bytes: Uint8Array) => Buffer.from(bytes).toString();

function pushText(column: TextColumn | undefined, value: string | undefined): void {
  if (value === undefined) column?.absent(CELL.unreadable);
  else column?.push(value);
}

/** The mount namespaces of processes, by inode: those that are wanted. */
function namespacesOf(context: TableContext, wanted: ReadonlySet<number> | undefined): Map<number, Halves> {
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
    if (at !== undefined && inode !== undefined && wanted?.has(inode) !== false && !found.has(inode))
      found.set(inode, at);
  }
  return found;
}
