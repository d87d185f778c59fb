import type { Kernel } from "../linux/kernel.ts";
import { type StructSpec, struct } from "../symbols/specs.ts";

/** Tables of functions whose type their names tell, with the members that are hooked: for the names of what is found. */
const tables: readonly { readonly suffix: RegExp; readonly spec: StructSpec }[] = [
  {
    suffix: /_seq_ops$/,
    spec: struct("?seq_operations", { start: "start", stop: "stop", next: "next", show: "show" }),
  },
  {
    suffix: /inode_operations$|_iops$/,
    spec: struct("?inode_operations", {
      lookup: "lookup",
      get_link: "?get_link",
      permission: "permission",
      create: "create",
      unlink: "unlink",
      getattr: "getattr",
      setattr: "setattr",
    }),
  },
  {
    suffix: /_fops$|_operations$|_file_ops$/,
    spec: struct("?file_operations", {
      llseek: "llseek",
      read: "read",
      write: "write",
      read_iter: "read_iter",
      write_iter: "write_iter",
      iterate: "?iterate",
      iterate_shared: "?iterate_shared",
      unlocked_ioctl: "unlocked_ioctl",
      open: "open",
      release: "release",
    }),
  },
  {
    suffix: /tty_ops$|ldisc_ops$/,
    spec: struct("?tty_ldisc_ops", {
      open: "open",
      close: "close",
      read: "read",
      write: "write",
      ioctl: "ioctl",
      receive_buf: "receive_buf",
      receive_buf2: "?receive_buf2",
    }),
  },
];

/** The member at an offset of a table of functions, by its symbol; undefined where the type is not known, or the member. */
export function memberName(kernel: Kernel, symbol: string, offset: number): string | undefined {
  const known = tables.find(({ suffix }) => suffix.test(symbol));
  if (known === undefined) return undefined;
  const layout = kernel.layout(known.spec);
  return known.spec.members.find(({ key }) => layout[key] === offset)?.key;
}
