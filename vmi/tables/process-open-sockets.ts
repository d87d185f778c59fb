import { NetInodes } from "../linux/net/namespaces.ts";
import { readSocket, socketInode } from "../linux/net/socket.ts";
import { openSockets, stillOwns } from "../linux/net/socket-owners.ts";
import { CELL } from "./columns.ts";
import { eachProcess } from "./each-process.ts";
import { writeEnds, writeSocket } from "./socket-cells.ts";
import { defineTable, integer, text } from "./table.ts";

/** One row a descriptor that is a socket. */
export const processOpenSockets = defineTable({
  name: "process_open_sockets",
  description: "Sockets that processes have open, from their descriptors",
  columns: {
    pid: integer("Process (thread group) id", { key: true }),
    fd: integer("Descriptor"),
    socket: integer("Number of its inode, as in /proc/PID/fd"),
    family: integer(
      "AF_*: 1 unix, 2 IPv4, 10 IPv6, 16 netlink, 17 packet; of others, such as 40 for vsock, addresses and state are not told",
    ),
    protocol: integer(
      "Of IP, such as 6 for TCP and 17 for UDP; of netlink, its family; of packets, the Ethernet type; else the family's own",
    ),
    local_address: text("Address of this end, for IP"),
    remote_address: text("Address of the other end, for IP"),
    local_port: integer("Port of this end; see connections"),
    remote_port: integer("Port of the other end"),
    path: text("Path of a unix socket, or its abstract name with @ for each zero"),
    state: text("State of IP and unix sockets, as TCP calls them; see connections"),
    net_namespace: integer("Network namespace that the socket belongs to: its inode number"),
    type: text("stream, dgram, raw, rdm, seqpacket or packet"),
    sock: text("Address of the struct sock: of all descriptors of one socket the same"),
  },
  cost: "walk",
  reads: [
    "init_task",
    "task_struct",
    "files_struct",
    "file",
    "socket_file_ops",
    "socket",
    "sock",
    "net",
    "tcp_sock",
    "unix_sock",
    "netlink_sock",
    "packet_sock",
  ],
  examples: [
    "SELECT p.name, s.remote_address, s.remote_port FROM process_open_sockets s JOIN processes p USING (vm, pid) WHERE s.family IN (2, 10)",
    "SELECT pid, fd, local_address, local_port FROM process_open_sockets WHERE state = 'LISTEN'",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const namespaces = new NetInodes(kernel);
    eachProcess(context, (task, pid) => {
      const { sockets, complete } = openSockets(kernel, task, budget);
      if (!complete) context.incomplete(`the open files of process ${pid} can't all be read`);
      for (const { fd, sock } of sockets) {
        budget.spend();
        const open = sock !== undefined && stillOwns(kernel, { pid, fd, task }, sock, budget);
        const socket = open ? readSocket(kernel, sock, true) : undefined;
        // Closed since.
        if (socket === undefined) continue;
        out.pid?.push(pid);
        out.fd?.push(fd);
        out.socket?.pushOr(out.socket && socketInode(kernel, socket), CELL.unreadable);
        writeSocket(kernel, out, socket, namespaces);
        writeEnds(out, socket);
        out.type?.push(socket.type);
        out.sock?.pushAddress(socket.at.hi, socket.at.lo);
        if (!context.row()) return false;
      }
      return true;
    });
  },
});
