// Sockets by the files of /proc/net, and by rows.
import type { Row } from "../engine/support.ts";
import { linesOf, type NamespaceTruth, procAddress } from "./network.ts";

const STATES = [
  "",
  "ESTABLISHED",
  "SYN_SENT",
  "SYN_RECV",
  "FIN_WAIT1",
  "FIN_WAIT2",
  "TIME_WAIT",
  "CLOSE",
  "CLOSE_WAIT",
  "LAST_ACK",
  "LISTEN",
  "CLOSING",
];
/** Files of /proc/net for IP: family, and the protocol; of raw sockets it is where others have a port. */
const INTERNET = [
  ["tcp", 2, 6, "stream"],
  ["tcp6", 10, 6, "stream"],
  ["udp", 2, 17, "dgram"],
  ["udp6", 10, 17, "dgram"],
  ["udplite", 2, 136, "dgram"],
  ["udplite6", 10, 136, "dgram"],
  ["icmp", 2, 1, "dgram"],
  ["icmp6", 10, 58, "dgram"],
  ["raw", 2, undefined, "raw"],
  ["raw6", 10, undefined, "raw"],
] as const;

/** A socket as lines of words: what any table of sockets tells of it, and what only connections does. */
export interface KnownSocket {
  /** 0: no file is open on it. */
  readonly inode: number;
  readonly core: string;
  readonly more: string;
}

const line = (...cells: unknown[]) => cells.map((cell) => (cell === null || cell === undefined ? "-" : cell)).join(" ");

/** The sockets of a network namespace, by its /proc/net. */
export function socketsOf(inode: number, { files }: NamespaceTruth): KnownSocket[] {
  const found: KnownSocket[] = [];
  for (const [file, family, protocol, type] of INTERNET) {
    for (const words of linesOf(files[file]!)) {
      const [local = "", localPort = ""] = words[1]!.split(":");
      const [remote = "", remotePort = ""] = words[2]!.split(":");
      const [send = "", receive = ""] = words[4]!.split(":");
      const port = (hex: string) => (type === "raw" ? null : Number.parseInt(hex, 16));
      const number = Number(words[9]);
      // Who has no inode is shown as root's.
      const uid = number === 0 ? "?" : Number(words[7]);
      const ends = [procAddress(local), port(localPort), procAddress(remote), port(remotePort)];
      const queues = [Number.parseInt(send, 16), Number.parseInt(receive, 16)];
      const of = protocol ?? Number.parseInt(localPort, 16);
      const state = STATES[Number.parseInt(words[3]!, 16)];
      const core = line(inode, family, of, type, state, ...ends);
      found.push({ inode: number, core, more: line(...queues, uid) });
    }
  }
  for (const words of linesOf(files.unix!)) {
    const number = Number(words[6]);
    const type = ["", "stream", "dgram", "raw", "rdm", "seqpacket"][Number.parseInt(words[4]!, 16)];
    const listens = (Number.parseInt(words[3]!, 16) & 0x10000) !== 0;
    const connected = number === 0 ? words[5] === "02" : words[5] === "03";
    const state = listens ? "LISTEN" : connected ? "ESTABLISHED" : "CLOSE";
    found.push({ inode: number, core: line(inode, 1, type, state, words[7]), more: "" });
  }
  for (const words of linesOf(files.packet!)) {
    const type = Number(words[2]) === 3 ? "raw" : "dgram";
    const [protocol, device] = [Number.parseInt(words[3]!, 16), Number(words[4]) || null];
    const core = line(inode, 17, type, protocol);
    found.push({ inode: Number(words[8]), core, more: line(device, words[6], words[7]) });
  }
  for (const words of linesOf(files.netlink!)) {
    const core = line(inode, 16, words[1], words[2]);
    found.push({ inode: Number(words[9]), core, more: line(words[4], words[5]) });
  }
  return found;
}

/** The same of a row. */
export function socketOf(row: Row): KnownSocket {
  const inode = ((row.inode ?? row.socket) as number | null) ?? 0;
  const space = row.net_namespace;
  if (row.family === 1) return { inode, core: line(space, 1, row.type, row.state, row.path), more: "" };
  if (row.family === 17)
    return {
      inode,
      core: line(space, 17, row.type, row.protocol),
      more: line(row.interface_index, row.receive_queue, row.uid),
    };
  if (row.family === 16)
    return {
      inode,
      core: line(space, 16, row.protocol, row.local_port),
      more: line(row.receive_queue, row.send_queue),
    };
  const ends = [row.local_address, row.local_port, row.remote_address, row.remote_port];
  return {
    inode,
    core: line(space, row.family, row.protocol, row.type, row.state, ...ends),
    more: line(row.send_queue, row.receive_queue, inode === 0 ? "?" : row.uid),
  };
}
