import type { Kernel } from "../linux/kernel.ts";
import type { NetInodes } from "../linux/net/namespaces.ts";
import { type Socket, socketPath } from "../linux/net/socket.ts";
import { CELL, type IntegerColumn, type TextColumn } from "./columns.ts";

/** Columns that every table of sockets has. */
export interface SocketWriters {
  readonly family: IntegerColumn | undefined;
  readonly protocol: IntegerColumn | undefined;
  readonly path: TextColumn | undefined;
  readonly net_namespace: IntegerColumn | undefined;
}

/** Columns of the two ends of a socket. */
export interface EndWriters {
  readonly local_address: TextColumn | undefined;
  readonly local_port: IntegerColumn | undefined;
  readonly remote_address: TextColumn | undefined;
  readonly remote_port: IntegerColumn | undefined;
  readonly state: TextColumn | undefined;
}

export function writeSocket(kernel: Kernel, out: SocketWriters, socket: Socket, namespaces: NetInodes): void {
  out.family?.push(socket.family);
  out.protocol?.push(socket.protocol);
  out.path?.pushOr(out.path && socketPath(kernel, socket), CELL.notApplicable);
  out.net_namespace?.pushOr(namespaces.of(socket.net), CELL.unreadable);
}

export function writeEnds(out: EndWriters, socket: Socket): void {
  pushText(out.local_address, socket.localAddress);
  out.local_port?.pushOr(socket.localPort, CELL.notApplicable);
  pushText(out.remote_address, socket.remoteAddress);
  out.remote_port?.pushOr(socket.remotePort, CELL.notApplicable);
  pushText(out.state, socket.state);
}

export function pushText(column: TextColumn | undefined, value: string | undefined): void {
  if (value === undefined) column?.absent(CELL.notApplicable);
  else column?.push(value);
}
