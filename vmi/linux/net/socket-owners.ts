import type { Budget } from "../../budget.ts";
import type { Halves } from "../../bytes/address.ts";
import { symbol } from "../../symbols/specs.ts";
import { openFile, walkOpenFiles } from "../fd-table.ts";
import { fileStruct } from "../file.ts";
import { follow } from "../follow.ts";
import type { Kernel } from "../kernel.ts";
import { processMember } from "../process-member.ts";
import { isNull, readPointer, readU32, sameAddress } from "../read.ts";
import { taskFiles, taskStruct } from "../task-struct.ts";
import { livePid, readProcesses, walkProcesses } from "../tasks.ts";
import { inodeNumber, socketStruct } from "./socket.ts";

/** net/socket.c: what an open socket's struct file is told by. */
const socketFileOps = symbol("socket_file_ops");

export interface OpenSocket {
  readonly fd: number;
  /** The struct file. */
  readonly file: Halves;
  /** The struct sock; undefined for a socket that has none, or none any more. */
  readonly sock: Halves | undefined;
}

export interface OpenSockets {
  readonly sockets: readonly OpenSocket[];
  readonly complete: boolean;
}

/** The sockets among a process's open files. */
export function openSockets(kernel: Kernel, task: Halves, budget: Budget): OpenSockets {
  const found = follow(kernel, task, kernel.layout(taskFiles).files, budget, (files) =>
    socketsOf(kernel, files, budget),
  );
  if (found === "null") return { sockets: [], complete: true };
  return typeof found === "string" ? { sockets: [], complete: false } : found.value;
}

function socketsOf(kernel: Kernel, files: Halves, budget: Budget): OpenSockets {
  const { space } = kernel;
  const { f_op, private_data } = kernel.layout(fileStruct);
  const { sk } = kernel.layout(socketStruct);
  const operations = kernel.place(socketFileOps);
  if (f_op < 0 || private_data < 0) return { sockets: [], complete: false };
  const sockets: OpenSocket[] = [];
  const complete = walkOpenFiles(kernel, files, budget, (fd, file) => {
    const of = readPointer(space, file, f_op);
    if (of === undefined || of.lo !== operations.lo || of.hi !== operations.hi) return true;
    const socket = readPointer(space, file, private_data);
    const sock = socket && readPointer(space, socket, sk);
    sockets.push({ fd, file, sock: sock === undefined || isNull(sock) ? undefined : sock });
    return true;
  });
  return { sockets, complete };
}

export interface SocketOwner {
  readonly pid: number;
  readonly fd: number;
  readonly task: Halves;
  /** The struct file. */
  readonly file: Halves;
  /** Of the process on the task list. */
  readonly place: number;
}

export interface SocketOwners {
  /** By ownerKey() of a struct sock: each process and descriptor that it is open in, in the order of the task list. */
  readonly byKey: ReadonlyMap<string, readonly SocketOwner[]>;
  readonly retried: number;
  readonly complete: boolean;
}

export function ownerKey(sock: Halves): string {
  return `${sock.hi}:${sock.lo}`;
}

/**
 * Who has which sockets open: one pass over all descriptor tables.
 *
 * @param pids of processes: only their sockets are told, which spares a look at the files of others; undefined: all
 */
export function socketOwners(kernel: Kernel, pids: ReadonlySet<number> | undefined, budget: Budget): SocketOwners {
  const byKey = new Map<string, SocketOwner[]>();
  const read = readProcesses(kernel, budget, (task, pid, place) =>
    pids?.has(pid) === false ? undefined : { task, pid, place, open: openSockets(kernel, task, budget) },
  );
  let complete = read.complete && read.torn === 0;
  for (const process of read.values) {
    if (process === undefined) continue;
    const { task, pid, place, open } = process;
    complete &&= open.complete;
    for (const { fd, file, sock } of open.sockets) {
      if (sock === undefined) continue;
      const key = ownerKey(sock);
      const known = byKey.get(key);
      if (known === undefined) byKey.set(key, [{ pid, fd, task, file, place }]);
      else known.push({ pid, fd, task, file, place });
    }
  }
  return { byKey, retried: read.retried, complete };
}

/** Whether a process has a socket open still: since owners were looked for, its memory may have become another's. */
export function stillOwns(
  kernel: Kernel,
  { pid, fd, task }: Pick<SocketOwner, "pid" | "fd" | "task">,
  sock: Halves,
  budget: Budget,
): boolean {
  if (livePid(kernel, task) !== pid) return false;
  const files = processMember(kernel, task, kernel.layout(taskFiles).files, budget);
  const file = files && openFile(kernel, files, fd);
  const socket = file && readPointer(kernel.space, file, kernel.layout(fileStruct).private_data);
  const now = socket && readPointer(kernel.space, socket, kernel.layout(socketStruct).sk);
  // A later socket may get the memory of everything that this one had.
  if (socket) inodeNumber(kernel, socket);
  return now !== undefined && sameAddress(now, sock);
}

/**
 * As socketOwners(), of only those sockets that no process before one of `pids` on the task list has open as well: of
 * which it is the first owner. Others' descriptors are compared, and their files not looked at.
 */
export function firstOwners(kernel: Kernel, pids: ReadonlySet<number>, budget: Budget): SocketOwners {
  const found = socketOwners(kernel, pids, budget);
  const { tgid } = kernel.layout(taskStruct);
  const { files } = kernel.layout(taskFiles);
  const byFile = new Map<string, string>();
  const places = new Map<string, number>();
  for (const [key, owners] of found.byKey) {
    places.set(key, owners[0]!.place);
    for (const { file } of owners) byFile.set(ownerKey(file), key);
  }
  const last = Math.max(-1, ...places.values());
  const byKey = new Map(found.byKey);
  const list = walkProcesses(kernel, budget);
  let complete = found.complete && list.complete;
  for (let i = 0; i < Math.min(last, list.count) && byKey.size > 0; i++) {
    const task = { hi: list.hi[i]!, lo: list.lo[i]! };
    const pid = readU32(kernel.space, task, tgid);
    if (pid === undefined || pids.has(pid)) continue;
    const walked = follow(kernel, task, files, budget, (at) =>
      walkOpenFiles(kernel, at, budget, (_, file) => {
        const key = byFile.get(ownerKey(file));
        if (key !== undefined && i < places.get(key)!) byKey.delete(key);
        return true;
      }),
    );
    complete &&= walked === "null" || (typeof walked !== "string" && walked.value);
  }
  return { byKey, retried: found.retried + list.retried, complete };
}
