import { NetInodes } from "../linux/net/namespaces.ts";
import { AF, type Socket, socketInode, socketPath } from "../linux/net/socket.ts";
import { ownerKey, type SocketOwner } from "../linux/net/socket-owners.ts";
import { walkSockets } from "../linux/net/socket-tables.ts";
import { CELL } from "./columns.ts";
import { familiesOf, ownersOf, SOCKET_TABLES } from "./connections.ts";
import { pushText, writeSocket } from "./socket-cells.ts";
import { defineTable, integer, text } from "./table.ts";

const NONE: readonly (SocketOwner | undefined)[] = [undefined];

/** One row a socket that others can reach, and a process that has it open. */
export const listeningPorts = defineTable({
  name: "listening_ports",
  description:
    "Sockets that wait for others: TCP and unix sockets that listen, UDP sockets with a port and no other end, unix datagram sockets with a name",
  columns: {
    pid: integer("Process that has it open, one row for each; none for the kernel's own", {
      key: true,
    }),
    port: integer("Port; 0 for unix", { key: true }),
    protocol: integer("6 TCP, 17 UDP, 136 UDP-Lite, 0 unix"),
    family: integer("1 unix, 2 IPv4, 10 IPv6", { key: true }),
    address: text("Address that it is bound to: 0.0.0.0 or :: for any"),
    fd: integer("Descriptor"),
    socket: integer("Number of its inode"),
    path: text("Path of a unix socket, or its abstract name with @ for each zero"),
    net_namespace: integer("Network namespace that it belongs to: its inode number"),
  },
  cost: "walk",
  reads: [...SOCKET_TABLES, "init_task", "task_struct", "files_struct", "file"],
  examples: [
    "SELECT l.port, l.address, p.name FROM listening_ports l JOIN processes p USING (vm, pid) WHERE l.protocol = 6",
    "SELECT net_namespace, count(*) FROM listening_ports GROUP BY net_namespace",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const namespaces = new NetInodes(kernel);
    const pids = context.keys("pid");
    const owners = out.pid || out.fd ? ownersOf(context, pids) : undefined;
    const wanted = context.keys("port");
    const asked: ReadonlySet<number> = context.keys("family") ?? new Set(Object.values(FAMILIES));
    const families = pids && owners ? familiesOf(kernel, owners, asked) : asked;
    const filter = { families, protocols: undefined };
    const { retried, broken } = walkSockets(kernel, filter, budget, context.unit, (socket) => {
      if (!waits(socket) || (pids && !owners?.byKey.has(ownerKey(socket.at)))) return true;
      const named = socket.family !== AF.unix || socketPath(kernel, socket) !== undefined;
      const port = socket.localPort ?? 0;
      if (!named || (wanted !== undefined && !wanted.has(port))) return true;
      const open = owners?.of(socket.at) ?? [];
      for (const owner of open.length > 0 ? open : NONE) {
        out.pid?.pushOr(owner?.pid, CELL.notApplicable);
        out.port?.push(port);
        writeSocket(kernel, out, socket, namespaces);
        pushText(out.address, socket.localAddress);
        out.fd?.pushOr(owner?.fd, CELL.notApplicable);
        out.socket?.pushOr(out.socket && socketInode(kernel, socket), CELL.notApplicable);
        if (!context.row()) return false;
      }
      return true;
    });
    context.retried(retried);
    for (const what of broken) context.incomplete(`${what} could not be followed to their end`);
  },
});

const FAMILIES = { unix: AF.unix, inet: AF.inet, inet6: AF.inet6 };

function waits({ family, type, isListening, localPort, remotePort }: Socket): boolean {
  if (isListening) return true;
  if (type !== "dgram") return false;
  return family === AF.unix || (localPort !== 0 && remotePort === 0);
}
