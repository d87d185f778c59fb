import { AF } from "../linux/net/socket.ts";
import { type CheckRow, defineCheck } from "./check.ts";
import { BELIEVED, reportHolders } from "./socket-holders.ts";

/** include/uapi/linux/in.h */
const PROTOCOLS = new Map<unknown, string>([
  [1, "ICMP"],
  [2, "IGMP"],
  [6, "TCP"],
  [17, "UDP"],
  [58, "ICMPv6"],
  [89, "OSPF"],
  [112, "VRRP"],
  [255, "any, sending only"],
]);

export const rawSockets = defineCheck({
  name: "raw-sockets",
  severity: "medium",
  cost: "walk",
  compares:
    "The descriptors of every process with what programs are known to need: a raw socket of IP gets all packets of a " +
    "protocol, and sends packets with any header. Back doors listen by them without an open port. Programs that " +
    "configure or test networks are told as info, where they are installed.",
  misses:
    "A known program's executable that was replaced, or that runs injected code. Sockets that a process has only handed " +
    `to io_uring or to a queue. Monitoring software with raw sockets of its own is reported. ${BELIEVED}`,
  confirm:
    "SELECT * FROM process_open_sockets WHERE type = 'raw' AND family IN (2, 10). In the guest, ss -w -p, or the inode in " +
    "/proc/net/raw and raw6.",
  reads: [
    "init_task",
    "task_struct",
    "files_struct",
    "file",
    "socket_file_ops",
    "socket",
    "sock",
    "mm_struct.exe_file",
  ],
  look: (context) =>
    reportHolders(context, {
      called: "raw sockets",
      users: "programs that configure or test networks",
      isOne: isRaw,
      kindOf: protocolOf,
    }),
});

function isRaw({ family, type }: CheckRow): boolean {
  return type === "raw" && (family === AF.inet || family === AF.inet6);
}

function protocolOf({ family, protocol }: CheckRow): string {
  return `${PROTOCOLS.get(protocol) ?? `protocol ${protocol}`} of ${family === AF.inet ? "IPv4" : "IPv6"}`;
}
