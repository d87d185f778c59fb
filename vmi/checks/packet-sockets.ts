import { AF } from "../linux/net/socket.ts";
import { type CheckRow, defineCheck } from "./check.ts";
import { AF_XDP, BELIEVED, reportHolders } from "./socket-holders.ts";

/** include/uapi/linux/if_ether.h */
const ETHER_TYPES = new Map<unknown, string>([
  [0, "none yet"],
  [0x0003, "every packet"],
  [0x0800, "IPv4"],
  [0x0806, "ARP"],
  [0x86dd, "IPv6"],
  [0x888e, "802.1X"],
  [0x88cc, "LLDP"],
]);

export const packetSockets = defineCheck({
  name: "packet-sockets",
  severity: "medium",
  cost: "walk",
  compares:
    "The descriptors of every process with what programs are known to need: a packet socket (AF_PACKET) or an XDP socket " +
    "(AF_XDP) gets packets as they come from the network, before any firewall. Sniffers have them, and back doors that " +
    "wait for a packet. Programs that configure networks are told as info where they are installed, those that capture as low.",
  misses:
    "A known program's executable that was replaced, or that runs injected code. Packets are seen by eBPF programs too: see " +
    `ebpf-programs. Monitoring software with packet sockets of its own is reported. ${BELIEVED}`,
  confirm:
    "SELECT * FROM process_open_sockets WHERE family IN (17, 44). In the guest, ss -0 -p, or the inode in /proc/net/packet.",
  reads: [
    "init_task",
    "task_struct",
    "files_struct",
    "file",
    "socket_file_ops",
    "socket",
    "packet_sock",
    "mm_struct.exe_file",
  ],
  look: (context) =>
    reportHolders(context, {
      called: "packet sockets",
      users: "programs that configure networks",
      isOne: getsPackets,
      kindOf,
    }),
});

function getsPackets({ family }: CheckRow): boolean {
  return family === AF.packet || family === AF_XDP;
}

function kindOf({ family, protocol }: CheckRow): string {
  if (family === AF_XDP) return "XDP";
  return ETHER_TYPES.get(protocol) ?? `Ethernet type 0x${(protocol ?? 0).toString(16).padStart(4, "0")}`;
}
