import type { Budget } from "../../budget.ts";
import type { Halves } from "../../bytes/address.ts";
import { symbol } from "../../symbols/specs.ts";
import { openFile, walkOpenFiles } from "../fd-table.ts";
import { fileStruct } from "../file.ts";
import { follow } from "../follow.ts";
import type { Kernel } from "../kernel.ts";
import { isNull, readPointer, sameAddress } from "../read.ts";
import { taskFiles } from "../task-struct.ts";
import { livePid, readProcesses } from "../tasks.ts";
import { socketStruct } from "./socket.ts";

/** net/socket.c: what an open socket's struct file is told by. */
const socketFileOps = symbol("socket_file_ops");

export interface OpenSocket {
  readonly fd: number;
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
    sockets.push({ fd, sock: sock === undefined || isNull(sock) ? undefined : sock });
    return true;
  });
  return { sockets, complete };
}

export interface SocketOwner {
  readonly pid: number;
  readonly fd: number;
  readonly task: Halves;
}

export interface SocketOwners {
  /** By ownerKey() of a struct sock: every process and descriptor that it is open in, in the order of the task list. */
  readonly byKey: ReadonlyMap<string, readonly SocketOwner[]>;
  readonly retried: number;
  readonly complete: boolean;
}

export function ownerKey(sock: Halves): string {
  return `${sock.hi}:${sock.lo}`;
}

/** Who has which sockets open: one pass over all descriptor tables. */
export function socketOwners(kernel: Kernel, budget: Budget): SocketOwners {
  const byKey = new Map<string, SocketOwner[]>();
  const read = readProcesses(kernel, budget, (task, pid) => ({ task, pid, open: openSockets(kernel, task, budget) }));
  let complete = read.complete && read.torn === 0;
  for (const { task, pid, open } of read.values) {
    complete &&= open.complete;
    for (const { fd, sock } of open.sockets) {
      if (sock === undefined) continue;
      const key = ownerKey(sock);
      const known = byKey.get(key);
      if (known === undefined) byKey.set(key, [{ pid, fd, task }]);
      else known.push({ pid, fd, task });
    }
  }
  return { byKey, retried: read.retried, complete };
}

/** Whether a process has a socket open still: since owners were looked for, its memory may have become another's. */
export function stillOwns(kernel: Kernel, { pid, fd, task }: SocketOwner, sock: Halves): boolean {
  if (livePid(kernel, task) !== pid) return false;
  const files = readPointer(kernel.space, task, kernel.layout(taskFiles).files);
  const file = files && openFile(kernel, files, fd);
  const socket = file && readPointer(kernel.space, file, kernel.layout(fileStruct).private_data);
  const now = socket && readPointer(kernel.space, socket, kernel.layout(socketStruct).sk);
  return now !== undefined && sameAddress(now, sock);
}
