import type { Halves } from "../bytes/address.ts";
import { struct } from "../symbols/specs.ts";
import { type FileSystemNames, type InodeFacts, inode, MAX_TYPE_NAME } from "./file.ts";
import type { Kernel } from "./kernel.ts";
import type { ResolvedPath } from "./path.ts";
import { readCString, readNumber, readPointer } from "./read.ts";

/** include/linux/ns_common.h, proc_ns.h */
const nsCommon = struct("?ns_common", { ops: "ops" });
const procNsOperations = struct("?proc_ns_operations", { name: "name" });

/** Names of file systems whose files have no path, and what /proc/PID/fd shows for one: a word and the inode's number. */
const NUMBERED: Readonly<Record<string, string>> = { sockfs: "socket", pipefs: "pipe" };

/**
 * What /proc/PID/fd/N links to, but for the mark " (deleted)": a path, or, for what is in no directory, the name that
 * its file system makes up (d_dname): `socket:[7]`, `pipe:[7]`, `anon_inode:[eventpoll]`, `/memfd:name`, `net:[7]`.
 *
 * @param names of file systems by super_block, kept from file to file of one request
 */
export function linkOf(
  kernel: Kernel,
  facts: InodeFacts | undefined,
  path: ResolvedPath | undefined,
  names: FileSystemNames,
): Uint8Array | undefined {
  if (path === undefined || !path.rootless) return path?.bytes;
  const type = facts?.superBlock && names.of(kernel, facts.superBlock);
  if (type === undefined || facts?.number === undefined) return path.bytes;
  const numbered = NUMBERED[type];
  if (numbered !== undefined) return Buffer.from(`${numbered}:[${facts.number}]`);
  const name = path.bytes.subarray(1);
  if (type === "anon_inodefs") return Buffer.concat([ANON_INODE, name]);
  if (type === "pidfs") return PIDFD;
  if (type === "nsfs") return Buffer.from(namespaceLink(kernel, facts.at) ?? `ns:[${facts.number}]`);
  return path.bytes;
}

const ANON_INODE = Buffer.from("anon_inode:");
const PIDFD = Buffer.from("anon_inode:[pidfd]");

/** What the link of an inode of nsfs says, such as `net:[7]`: its i_private is the namespace's ns_common. */
export function namespaceLink(kernel: Kernel, at: Halves): string | undefined {
  const { space } = kernel;
  const { i_private, i_ino } = kernel.layout(inode);
  const { ops } = kernel.layout(nsCommon);
  const namespace = i_private < 0 ? undefined : readPointer(space, at, i_private);
  const operations = namespace && ops >= 0 ? readPointer(space, namespace, ops) : undefined;
  const name = operations && readPointer(space, operations, kernel.layout(procNsOperations).name);
  const bytes = name && readCString(space, name, MAX_TYPE_NAME);
  return bytes && `${Buffer.from(bytes).toString("latin1")}:[${readNumber(space, at, i_ino)}]`;
}
