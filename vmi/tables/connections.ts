import type { Halves } from "../bytes/address.ts";
import type { Kernel } from "../linux/kernel.ts";
import { NetInodes } from "../linux/net/namespaces.ts";
import { type Queues, type Socket, socketFamily, socketInode, socketQueues } from "../linux/net/socket.ts";
import {
  firstOwners,
  ownerKey,
  type SocketOwner,
  type SocketOwners,
  socketOwners,
  stillOwns,
} from "../linux/net/socket-owners.ts";
import { walkSockets } from "../linux/net/socket-tables.ts";
import { CELL } from "./columns.ts";
import { writeEnds, writeSocket } from "./socket-cells.ts";
import { defineTable, integer, type TableContext, text } from "./table.ts";

/** What walks of the kernel's tables of sockets read. */
export const SOCKET_TABLES = [
  "net_namespace_list",
  "net",
  "sock_common",
  "sock",
  "socket",
  "inode",
  "inet_hashinfo: net.ipv4.tcp_death_row.hashinfo (tcp_hashinfo where that is a pointer, 5.18 to 6.0); lhash2 from 5.19 (cae3873c5b3a), before listening_hash",
  "inet_timewait_sock, request_sock, tcp_sock, udp_sock",
  "udp_table: net.ipv4.udp_table from 6.2 (9804985bf27f), before udp_table; udplite_table",
  "raw_v4_hashinfo, raw_v6_hashinfo, ping_table",
  "unix_sock: net.unx.table from 6.0 (cf2f225e2653), before unix_socket_table",
  "packet_sock, net.packet.sklist",
  "netlink_sock, nl_table, rhashtable",
] as const;

/** One row a socket, by the kernel's own tables: /proc/net/{tcp,tcp6,udp,udp6,raw,raw6,icmp,icmp6,unix,packet,netlink}. */
export const connections = defineTable({
  name: "connections",
  description:
    "Sockets of every family in all network namespaces, from the tables that the kernel's protocols keep of them",
  columns: {
    family: integer("1 unix, 2 IPv4, 10 IPv6, 16 netlink, 17 packet", { key: true }),
    protocol: integer(
      "Of IP, such as 6 for TCP and 17 for UDP; of netlink, its family; of packets, the Ethernet type; 0 for unix",
      { key: true },
    ),
    type: text("stream, dgram, raw, rdm, seqpacket or packet"),
    state: text(
      "ESTABLISHED, SYN_SENT, SYN_RECV, FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSE, CLOSE_WAIT, LAST_ACK, LISTEN or CLOSING, for IP and unix",
    ),
    local_address: text("Address of this end, for IP"),
    local_port: integer("Port of this end; the identifier, for ICMP; the port id, for netlink; none for raw sockets"),
    remote_address: text("Address of the other end, for IP; 0.0.0.0 or :: when there is none"),
    remote_port: integer("Port of the other end, or port id"),
    path: text("Path of a unix socket, or its abstract name with @ for each zero"),
    send_queue: integer(
      "Bytes sent and not yet confirmed (TCP), or not yet taken, with what they cost; most connections that may wait, for unix sockets that listen",
    ),
    receive_queue: integer(
      "Bytes that wait to be read, with what they cost but for TCP and unix; connections that wait, for sockets that listen",
    ),
    inode: integer("Number of its inode, as in /proc/PID/fd; none when no file is open on it, where /proc shows 0"),
    uid: integer("User id of who made it; /proc shows 0 for one that has no inode"),
    pid: integer("A process that has it open, the first of several; none when no process has", { key: true }),
    fd: integer("The descriptor there"),
    net_namespace: integer("Network namespace that it belongs to: its inode number"),
    interface_index: integer("Interface that it is bound to"),
    sock: text("Address of the struct sock, inet_timewait_sock or request_sock"),
  },
  cost: "walk",
  reads: [...SOCKET_TABLES, "init_task", "task_struct", "files_struct", "file"],
  examples: [
    "SELECT local_address, local_port, remote_address, remote_port, pid FROM connections WHERE protocol = 6 AND state = 'ESTABLISHED'",
    "SELECT p.name, c.path FROM connections c JOIN processes p USING (vm, pid) WHERE c.family = 1 AND c.state = 'LISTEN'",
    "SELECT pid, interface_index FROM connections WHERE family = 17",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const namespaces = new NetInodes(kernel);
    const pids = context.keys("pid");
    const first = pids && firstOwners(kernel, pids, budget);
    const owners = first ? noteOwners(context, first) : out.pid || out.fd ? ownersOf(context) : undefined;
    const families = first ? familiesOf(kernel, first, context.keys("family")) : context.keys("family");
    const filter = { families, protocols: context.keys("protocol") };
    const write = (socket: Socket): boolean => {
      if (first !== undefined && !first.byKey.has(ownerKey(socket.at))) return true;
      writeSocket(kernel, out, socket, namespaces);
      writeEnds(out, socket);
      out.type?.push(socket.type);
      const queues: Queues | undefined = (out.send_queue ?? out.receive_queue) && socketQueues(kernel, socket, budget);
      out.send_queue?.pushOr(queues?.send, CELL.unreadable);
      out.receive_queue?.pushOr(queues?.receive, CELL.unreadable);
      out.inode?.pushOr(out.inode && socketInode(kernel, socket), CELL.notApplicable);
      out.uid?.pushOr(socket.uid, CELL.notApplicable);
      const owner = owners?.of(socket.at)[0];
      out.pid?.pushOr(owner?.pid, CELL.notApplicable);
      out.fd?.pushOr(owner?.fd, CELL.notApplicable);
      out.interface_index?.pushOr(socket.interfaceIndex, CELL.notApplicable);
      out.sock?.pushAddress(socket.at.hi, socket.at.lo);
      return context.row();
    };
    const { retried, broken } = walkSockets(kernel, filter, budget, context.unit, write);
    context.retried(retried);
    for (const what of broken) context.incomplete(`${what} could not be followed to their end`);
  },
});

/** Who has sockets open. */
export interface Owners extends Pick<SocketOwners, "byKey"> {
  /** The owners of a struct sock that have it open still. */
  of(sock: Halves): readonly SocketOwner[];
}

/** @param pids of processes: only theirs; undefined: all */
export function ownersOf(context: TableContext, pids?: ReadonlySet<number>): Owners {
  return noteOwners(context, socketOwners(context.kernel, pids, context.budget));
}

function noteOwners(context: TableContext, { byKey, retried, complete }: SocketOwners): Owners {
  const { kernel, budget } = context;
  context.retried(retried);
  if (!complete) context.incomplete("the open files of a process can't all be read, so some owners may be missing");
  // Since they were looked for, they may have closed it.
  return {
    byKey,
    of: (sock) => byKey.get(ownerKey(sock))?.filter((owner) => stillOwns(kernel, owner, sock, budget)) ?? [],
  };
}

/** Families of the sockets that somebody has open, of those that are wanted: tables of others need not be walked. */
export function familiesOf(
  kernel: Kernel,
  { byKey }: Pick<SocketOwners, "byKey">,
  wanted: ReadonlySet<number> | undefined,
): ReadonlySet<number> {
  const families = new Set<number>();
  for (const [key] of byKey) {
    const [hi, lo] = key.split(":").map(Number) as [number, number];
    const family = socketFamily(kernel, { hi, lo });
    if (family !== undefined && wanted?.has(family) !== false) families.add(family);
  }
  return families;
}
