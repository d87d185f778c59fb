import type { Budget } from "../../budget.ts";
import type { Halves } from "../../bytes/address.ts";
import { struct } from "../../symbols/specs.ts";
import type { Kernel } from "../kernel.ts";
import { isNull, pinNumber, plus, readPointer, readU32 } from "../read.ts";
import { formatIpv4, formatIpv6, networkU16 } from "./address.ts";
import { netAt } from "./namespaces.ts";
import { localSocketPath, localSocketQueues } from "./unix.ts";

/** include/net/sock.h: what every socket begins with, also one that waits for its end, or for the end of a handshake. */
export const sockCommon = struct("sock_common", {
  skc_daddr: "skc_daddr",
  skc_rcv_saddr: "skc_rcv_saddr",
  skc_v6_daddr: "?skc_v6_daddr",
  skc_v6_rcv_saddr: "?skc_v6_rcv_saddr",
  skc_dport: "skc_dport",
  skc_num: "skc_num",
  skc_family: "skc_family",
  skc_state: "skc_state",
  skc_bound_dev_if: "skc_bound_dev_if",
  skc_net: "?skc_net.net",
  skc_node: "skc_node",
  skc_listener: "?skc_listener",
});
/** sk_type and sk_protocol are bit fields of 16 and 8 bits before 5.6 (bf9765145b85), in this order from protocol to type. */
const sock = struct("sock", {
  sk_type: "sk_type",
  sk_protocol: "sk_protocol",
  sk_uid: "sk_uid",
  sk_socket: "sk_socket",
  sk_wmem_alloc: "sk_wmem_alloc",
  sk_rmem_alloc: "sk_backlog.rmem_alloc",
  sk_ack_backlog: "sk_ack_backlog",
});
/** include/linux/net.h */
export const socketStruct = struct("socket", { sk: "sk" });
const socketAlloc = struct("socket_alloc", { socket: "socket", vfs_inode: "vfs_inode" });
/** include/linux/fs.h */
const inode = struct("inode", { i_ino: "i_ino" });
/** include/linux/tcp.h, udp.h; net/netlink/af_netlink.h; net/packet/internal.h */
const tcpSock = struct("tcp_sock", {
  write_seq: "write_seq",
  snd_una: "snd_una",
  rcv_nxt: "rcv_nxt",
  copied_seq: "copied_seq",
});
const udpSock = struct("udp_sock", { forward_deficit: "?forward_deficit" });
const timewaitSock = struct("inet_timewait_sock", { tw_substate: "tw_substate" });
const netlinkSock = struct("?netlink_sock", { portid: "portid", dst_portid: "dst_portid" });
/** No type of the kernel itself where packet sockets are a module. */
const packetSock = struct("?packet_sock", { num: "num", ifindex: "ifindex" });

/** include/linux/socket.h */
export const AF = { unix: 1, inet: 2, inet6: 10, netlink: 16, packet: 17 } as const;
/** AF_MAX is 46, and grows by one in several years. */
const MAX_FAMILY = 64;
/** include/linux/net.h: enum sock_type */
const SOCK = { stream: 1, dgram: 2, raw: 3, rdm: 4, seqpacket: 5, packet: 10 } as const;
const TYPE_NAMES = new Map<number, string>(Object.entries(SOCK).map(([name, type]) => [type, name]));
/** include/uapi/linux/in.h */
export const IPPROTO = { icmp: 1, tcp: 6, udp: 17, icmp6: 58, udplite: 136 } as const;

/** include/net/tcp_states.h: the sockets of other protocols use the same. */
const TCP_TIME_WAIT = 6;
const TCP_LISTEN = 10;
const TCP_NEW_SYN_RECV = 12;
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
  // TCP_NEW_SYN_RECV: /proc/net/tcp shows it so.
  "SYN_RECV",
];

/** A socket, as it was when it was read. What is undefined it does not have, or it could not be read. */
export interface Socket {
  /** The struct sock; or the inet_timewait_sock or request_sock. */
  readonly at: Halves;
  readonly net: Halves | undefined;
  readonly family: number;
  /** Of IP; of netlink, its family; of packets, the Ethernet type. */
  readonly protocol: number;
  readonly type: string;
  /** As the TCP states are called; undefined where a protocol has none. */
  readonly state: string | undefined;
  readonly localAddress: string | undefined;
  readonly localPort: number | undefined;
  readonly remoteAddress: string | undefined;
  readonly remotePort: number | undefined;
  /** Of a device that it is bound to. */
  readonly interfaceIndex: number | undefined;
  readonly uid: number | undefined;
  readonly isListening: boolean;
  /** Only these have files, queues and the like: the others are less than a struct sock. */
  readonly full: boolean;
}

/** Bytes that were sent and are not confirmed, or not taken yet, and bytes that wait to be read, as /proc/net counts them. */
export interface Queues {
  readonly send: number | undefined;
  readonly receive: number | undefined;
}

/**
 * Reads the socket at an address. Undefined when it can't be read, or is of no family that is known here.
 *
 * @param anyFamily also reads those of other families, of which only family, type, protocol and owner are told
 */
export function readSocket(kernel: Kernel, at: Halves, anyFamily = false): Socket | undefined {
  const { space, memory } = kernel;
  const common = kernel.layout(sockCommon);
  const index = space.borrow(at.hi, at.lo, common.sizeof);
  if (index < 0) return undefined;
  const { view, bytes } = memory;
  const family = view.getUint16(index + common.skc_family, true);
  const state = bytes[index + common.skc_state]!;
  const six = family === AF.inet6;
  const internet = (family === AF.inet || six) && state < STATES.length;
  const known = internet || family === AF.unix || family === AF.netlink || family === AF.packet;
  if (!known && !(anyFamily && family > 0 && family < MAX_FAMILY && family !== AF.inet && !six)) return undefined;
  const address = (four: number, whole: number) =>
    six ? (whole < 0 ? undefined : formatIpv6(bytes, index + whole)) : formatIpv4(bytes, index + four);
  const common_ = {
    at,
    net: undefined as Halves | undefined,
    family,
    state: internet || family === AF.unix ? STATES[state] : undefined,
    localAddress: internet ? address(common.skc_rcv_saddr, common.skc_v6_rcv_saddr) : undefined,
    localPort: internet ? view.getUint16(index + common.skc_num, true) : undefined,
    remoteAddress: internet ? address(common.skc_daddr, common.skc_v6_daddr) : undefined,
    remotePort: internet ? networkU16(bytes, index + common.skc_dport) : undefined,
    interfaceIndex: view.getInt32(index + common.skc_bound_dev_if, true) || undefined,
    isListening: state === TCP_LISTEN && family !== AF.netlink,
  };
  common_.net = netAt(kernel, at, common.skc_net);
  if (internet && state === TCP_TIME_WAIT) return { ...common_, ...timewait(kernel, at) };
  if (internet && state === TCP_NEW_SYN_RECV) return { ...common_, ...handshake(kernel, at) };
  const full = kernel.layout(sock);
  // A struct of 700 bytes and more: only the few words that are needed.
  const typeAt = space.borrow(...both(at, Math.min(full.sk_type, full.sk_protocol)), 4);
  const uid = readU32(space, at, full.sk_uid);
  if (typeAt < 0) return undefined;
  const [type, protocol] =
    full.sk_protocol < full.sk_type
      ? [view.getUint16(typeAt + 1, true), bytes[typeAt]!]
      : [view.getUint16(typeAt, true), view.getUint16(typeAt + full.sk_protocol - full.sk_type, true)];
  const found = { ...common_, type: TYPE_NAMES.get(type) ?? String(type), protocol, uid, full: true };
  if (family === AF.netlink) return { ...found, ...netlinkPorts(kernel, at) };
  if (family === AF.packet) return { ...found, ...packetBinding(kernel, at) };
  // Its number is that of the protocol, which is told as such.
  if (internet && type === SOCK.raw) return { ...found, localPort: undefined, remotePort: undefined };
  return found;
}

/** AF_* of the socket at an address. */
export function socketFamily(kernel: Kernel, at: Halves): number | undefined {
  const value = readU32(kernel.space, at, kernel.layout(sockCommon).skc_family);
  return value === undefined ? undefined : value & 0xffff;
}

function both(at: Halves, offset: number): [number, number] {
  const { hi, lo } = plus(at, offset);
  return [hi, lo];
}

function timewait(kernel: Kernel, at: Halves) {
  const { tw_substate } = kernel.layout(timewaitSock);
  const index = kernel.space.resolve(...both(at, tw_substate));
  const state = index < 0 ? undefined : STATES[kernel.memory.bytes[index]!];
  return { state, type: "stream", protocol: IPPROTO.tcp, uid: undefined, full: false };
}

/** A request_sock: its user is that of the socket that listens. */
function handshake(kernel: Kernel, at: Halves) {
  const { skc_listener } = kernel.layout(sockCommon);
  const listener = skc_listener < 0 ? undefined : readPointer(kernel.space, at, skc_listener);
  const uid =
    listener === undefined || isNull(listener)
      ? undefined
      : readU32(kernel.space, listener, kernel.layout(sock).sk_uid);
  return { type: "stream", protocol: IPPROTO.tcp, uid, full: false };
}

function netlinkPorts(kernel: Kernel, at: Halves) {
  const { portid, dst_portid } = kernel.layout(netlinkSock);
  if (portid < 0) return {};
  return {
    localPort: readU32(kernel.space, at, portid),
    remotePort: readU32(kernel.space, at, dst_portid),
    interfaceIndex: undefined,
  };
}

function packetBinding(kernel: Kernel, at: Halves) {
  const { num, ifindex } = kernel.layout(packetSock);
  if (num < 0) return {};
  const index = kernel.space.resolve(...both(at, num));
  return {
    protocol: index < 0 ? 0 : networkU16(kernel.memory.bytes, index),
    interfaceIndex: readU32(kernel.space, at, ifindex) || undefined,
  };
}

/** False for a struct sock that has been closed: sock_orphan() (include/net/sock.h). */
export function hasSocket(kernel: Kernel, at: Halves): boolean {
  const socket = readPointer(kernel.space, at, kernel.layout(sock).sk_socket);
  return socket !== undefined && !isNull(socket);
}

/** The number of a socket's inode, which /proc/PID/fd shows; undefined when no file is open on it. */
export function socketInode(kernel: Kernel, { at, full }: Socket): number | undefined {
  const socket = full ? readPointer(kernel.space, at, kernel.layout(sock).sk_socket) : undefined;
  if (socket === undefined || isNull(socket)) return undefined;
  return inodeNumber(kernel, socket);
}

/** Of the inode that a struct socket is allocated with: which of all sockets that have had this address it is. */
export function inodeNumber(kernel: Kernel, socket: Halves): number | undefined {
  const layout = kernel.layout(socketAlloc);
  return pinNumber(kernel.space, socket, layout.vfs_inode - layout.socket + kernel.layout(inode).i_ino);
}

/** The path or the abstract name of a unix socket, as /proc/net/unix shows it; undefined for one without. */
export function socketPath(kernel: Kernel, socket: Socket): Uint8Array | undefined {
  return socket.family === AF.unix ? localSocketPath(kernel, socket.at) : undefined;
}

export function socketQueues(kernel: Kernel, socket: Socket, budget: Budget): Queues {
  const { space } = kernel;
  const { at, family, protocol, full } = socket;
  if (!full) return { send: 0, receive: 0 };
  const layout = kernel.layout(sock);
  const u32 = (offset: number) => readU32(space, at, offset);
  if (protocol === IPPROTO.tcp && socket.type === "stream" && family !== AF.unix) {
    const tcp = kernel.layout(tcpSock);
    const written = u32(tcp.write_seq);
    const confirmed = u32(tcp.snd_una);
    const send = written === undefined || confirmed === undefined ? undefined : (written - confirmed) >>> 0;
    if (socket.isListening) return { send, receive: u32(layout.sk_ack_backlog) };
    const received = u32(tcp.rcv_nxt);
    const taken = u32(tcp.copied_seq);
    // A FIN that was received counts one more than was ever to be read, as in /proc.
    const receive = received === undefined || taken === undefined ? undefined : Math.max(0, (received - taken) | 0);
    return { send, receive };
  }
  const allocated = u32(layout.sk_wmem_alloc);
  // A reference is the socket's own.
  const send = allocated === undefined ? undefined : Math.max(0, allocated - 1);
  if (family === AF.unix) return localSocketQueues(kernel, socket, send, budget);
  const charged = u32(layout.sk_rmem_alloc);
  const deferred = protocol === IPPROTO.udp || protocol === IPPROTO.udplite ? udpDeficit(kernel, socket) : 0;
  return { send, receive: charged === undefined ? undefined : Math.max(0, charged - deferred) };
}

/** What was read and is given back later, from 4.10 (6b229cf77d68). */
function udpDeficit(kernel: Kernel, { at, type }: Socket): number {
  const { forward_deficit } = kernel.layout(udpSock);
  return type !== "dgram" || forward_deficit < 0 ? 0 : (readU32(kernel.space, at, forward_deficit) ?? 0);
}
