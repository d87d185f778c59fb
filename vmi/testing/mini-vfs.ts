import type { MiniKernel, Thing } from "./mini-kernel.ts";

/** Directories and mounts of a made-up kernel. */
export interface Mount {
  /** struct mount */
  readonly thing: Thing;
  /** Address of its struct vfsmount, which is what a struct path holds. */
  readonly mnt: bigint;
  readonly root: Thing;
}

export function makeDentry(kernel: MiniKernel, name: string | Uint8Array, parent?: Thing): Thing {
  const dentry = kernel.make("dentry");
  dentry.setAll({
    d_parent: (parent ?? dentry).va,
    "d_name.name": kernel.string(name),
    "d_name.len": Buffer.from(name).length,
    "d_hash.pprev": 0xffff_8880_0000_1000n,
  });
  const list = dentry.type.members.has("d_subdirs");
  if (list) kernel.emptyList(dentry.at("d_subdirs"));
  if (parent !== undefined && list) kernel.listAdd(parent.at("d_subdirs"), dentry.at("d_child"));
  else if (parent !== undefined) hlistAdd(kernel, parent.at("d_children"), dentry.at("d_sib"));
  return dentry;
}

/** The newest is the first. */
function hlistAdd(kernel: MiniKernel, head: bigint, node: bigint): void {
  const first = kernel.readPointer(head);
  kernel.writeInteger(node, first, 8);
  kernel.writeInteger(node + 8n, head, 8);
  if (first !== 0n) kernel.writeInteger(first + 8n, node, 8);
  kernel.writeInteger(head, node, 8);
}

/** A file system whose root lies at a directory of another, or on nothing: the global root. */
export function makeMount(kernel: MiniKernel, on?: { readonly mount: Mount; readonly point: Thing }): Mount {
  const root = makeDentry(kernel, "/");
  const thing = kernel.make("mount");
  thing.setAll({
    "mnt.mnt_root": root.va,
    mnt_parent: (on?.mount.thing ?? thing).va,
    mnt_mountpoint: (on?.point ?? root).va,
  });
  return { thing, mnt: thing.at("mnt"), root };
}

/** The dentry of a path below a mount's root; every part is made anew. */
export function makePath(kernel: MiniKernel, mount: Mount, path: string): Thing {
  return path
    .split("/")
    .filter((part) => part !== "")
    .reduce((parent, part) => makeDentry(kernel, part, parent), mount.root);
}

/** A struct file whose path is a dentry of a mount. */
export function makeFile(kernel: MiniKernel, mount: Mount, dentry: Thing): Thing {
  return kernel.make("file").setAll({ "f_path.mnt": mount.mnt, "f_path.dentry": dentry.va });
}
