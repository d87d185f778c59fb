import type { Budget } from "../../budget.ts";
import type { Halves } from "../../bytes/address.ts";
import { struct, symbol } from "../../symbols/specs.ts";
import { forEachBucket } from "../buckets.ts";
import { isHashed, walkHlist, walkHlistNulls } from "../hlist.ts";
import type { Kernel } from "../kernel.ts";
import type { Addresses } from "../list.ts";
import { isNull, plus, readPointer, readU32, sameAddress } from "../read.ts";
import { walkRhashtable } from "../rhashtable.ts";
import type { Unit } from "../unit.ts";
import { netNamespaces } from "./namespaces.ts";
import { AF, hasSocket, IPPROTO, readSocket, type Socket, sockCommon } from "./socket.ts";

/** Where the kernel's protocols keep their sockets. */

/** include/net/net_namespace.h. The tables of a namespace's own: TCP from 6.1 (d1e5e6408b30), UDP from 6.2 (9804985bf27f), unix from 6.0 (cf2f225e2653). */
const net = struct("net", {
  tcp_hashinfo: "?ipv4.tcp_death_row.hashinfo",
  udp_table: "?ipv4.udp_table",
  unix_buckets: "?unx.table.buckets",
  packets: "?packet.sklist",
});
/** include/net/inet_hashtables.h; listening sockets by port only until 5.18 (cae3873c5b3a). */
const inetHashinfo = struct("inet_hashinfo", {
  ehash: "ehash",
  ehash_mask: "ehash_mask",
  listening_hash: "?listening_hash",
  lhash2: "?lhash2",
  lhash2_mask: "?lhash2_mask",
});
/** From 5.5 (8dbd76e79a16) the chains of sockets that listen end with a number. */
const inetListenBucket = struct("inet_listen_hashbucket", {
  head: ["?nulls_head", "?head"],
  nulls_head: "?nulls_head",
});
/** include/net/udp.h, raw.h, ping.h */
const udpTable = struct("udp_table", { hash: "hash", mask: "mask" });
const udpSlot = struct("udp_hslot", { head: "head" });
const rawHashinfo = struct("?raw_hashinfo", { ht: "ht" });
const pingTable = struct("?ping_table", { hash: "hash" });
/** net/netlink/af_netlink.h */
const netlinkTable = struct("netlink_table", { hash: "hash" });
const netlinkSock = struct("netlink_sock", { node: "node" });

const tcpHashinfo = symbol("?tcp_hashinfo");
const udpTables = [symbol("?udp_table"), symbol("?udplite_table")];
const rawTables = [symbol("?raw_v4_hashinfo"), symbol("?raw_v6_hashinfo")];
const pingTableSymbol = symbol("?ping_table");
const unixTable = symbol("?unix_socket_table");
const nlTable = symbol("?nl_table");

const POINTER = 8;
/** INET_LHTABLE_SIZE, RAW_HTABLE_SIZE (MAX_INET_PROTOS), PING_HTABLE_SIZE, MAX_LINKS, and twice UNIX_HASH_SIZE. */
const LISTENING_BUCKETS = 32;
const RAW_BUCKETS = 256;
const PING_BUCKETS = 64;
const NETLINK_TABLES = 32;
const UNIX_BUCKETS = 512;
/** The kernel makes none larger (thash_entries, uhash_entries of its command line). */
const MAX_BUCKETS = 1 << 24;
/** Sockets in one chain: ids run out before. */
const MAX_CHAIN = 1 << 20;

/** Which sockets are wanted; undefined: all. */
export interface SocketFilter {
  readonly families: ReadonlySet<number> | undefined;
  readonly protocols: ReadonlySet<number> | undefined;
}

export interface WalkedSockets {
  readonly retried: number;
  /** What could not be followed to its end. */
  readonly broken: readonly string[];
}

type Visit = (socket: Socket) => boolean;

/**
 * Visits the sockets of all network namespaces. Each is a unit, and must be in its chain at its start and its end: the
 * memory of a socket that ended meanwhile may be another's.
 *
 * @param visit returns false to stop
 */
export function walkSockets(
  kernel: Kernel,
  filter: SocketFilter,
  budget: Budget,
  unit: Unit,
  visit: Visit,
): WalkedSockets {
  const { namespaces, complete, retried } = netNamespaces(kernel, budget);
  const state = {
    retried,
    broken: new Set<string>(complete ? [] : ["the list of network namespaces"]),
    stopped: false,
  };
  const walk: Walk = {
    kernel,
    budget,
    namespaces,
    visit: (at, isLinked) => {
      state.stopped ||= !unit(
        () => "a socket",
        () => {
          const socket = isLinked() ? readSocket(kernel, at) : undefined;
          return socket === undefined || visit(socket);
        },
      );
      return !state.stopped;
    },
    retried: (times) => {
      state.retried += times;
    },
    broken: (what) => {
      state.broken.add(what);
    },
  };
  const { families, protocols } = filter;
  const hasFamily = (...wanted: number[]) => families === undefined || wanted.some((family) => families.has(family));
  const hasProtocol = (...wanted: number[]) =>
    protocols === undefined || wanted.some((protocol) => protocols.has(protocol));
  const internet = hasFamily(AF.inet, AF.inet6);
  if (internet && hasProtocol(IPPROTO.tcp)) walkTcp(walk);
  if (internet && hasProtocol(IPPROTO.udp, IPPROTO.udplite) && !state.stopped) walkUdp(walk);
  if (internet && !state.stopped) walkRaw(walk);
  if (hasFamily(AF.unix) && !state.stopped) walkUnix(walk);
  if (hasFamily(AF.packet) && !state.stopped) walkPacket(walk);
  if (hasFamily(AF.netlink) && !state.stopped) walkNetlink(walk);
  return { retried: state.retried, broken: [...state.broken] };
}

interface Walk {
  readonly kernel: Kernel;
  readonly budget: Budget;
  readonly namespaces: readonly Halves[];
  readonly visit: (at: Halves, isLinked: () => boolean) => boolean;
  readonly retried: (times: number) => void;
  readonly broken: (what: string) => void;
}

/** The tables that namespaces point to, each once: most share the first one's. */
function tablesOf({ kernel, namespaces }: Walk, member: number, fallback: Halves | undefined): Halves[] {
  const found: Halves[] = [];
  for (const namespace of member < 0 ? [] : namespaces) {
    const table = readPointer(kernel.space, namespace, member);
    if (table === undefined || isNull(table)) continue;
    if (!found.some((known) => sameAddress(known, table))) found.push(table);
  }
  return found.length === 0 && fallback !== undefined ? [fallback] : found;
}

function walkTcp(walk: Walk): void {
  const { kernel } = walk;
  const { space } = kernel;
  const layout = kernel.layout(inetHashinfo);
  const bucket = kernel.layout(inetListenBucket);
  for (const table of tablesOf(walk, kernel.layout(net).tcp_hashinfo, kernel.optionalPlace(tcpHashinfo))) {
    const listening = { what: "TCP sockets that listen", stride: bucket.sizeof, head: bucket.head };
    if (layout.listening_hash >= 0) {
      const nulls = bucket.nulls_head >= 0;
      if (!walkBuckets(walk, { ...listening, at: plus(table, layout.listening_hash), count: LISTENING_BUCKETS, nulls }))
        return;
    } else {
      const at = readPointer(space, table, layout.lhash2);
      const mask = readU32(space, table, layout.lhash2_mask);
      if (!walkBuckets(walk, { ...listening, at, count: bucketsOf(mask), nulls: true })) return;
    }
    const at = readPointer(space, table, layout.ehash);
    const count = bucketsOf(readU32(space, table, layout.ehash_mask));
    if (!walkBuckets(walk, { what: "TCP sockets", at, count, stride: POINTER, head: 0, nulls: true })) return;
  }
}

function walkUdp(walk: Walk): void {
  const { kernel } = walk;
  const { space } = kernel;
  const layout = kernel.layout(udpTable);
  const slot = kernel.layout(udpSlot);
  const [udp, lite] = udpTables.map((spec) => kernel.optionalPlace(spec));
  const tables = tablesOf(walk, kernel.layout(net).udp_table, udp);
  for (const table of lite === undefined ? tables : [...tables, lite]) {
    const at = readPointer(space, table, layout.hash);
    const count = bucketsOf(readU32(space, table, layout.mask));
    if (!walkBuckets(walk, { what: "UDP sockets", at, count, stride: slot.sizeof, head: slot.head, nulls: false }))
      return;
  }
}

/** Raw sockets, and those that send and receive echoes of ICMP (net/ipv4/ping.c). */
function walkRaw(walk: Walk): void {
  const { kernel } = walk;
  const { ht } = kernel.layout(rawHashinfo);
  for (const spec of rawTables) {
    const table = kernel.optionalPlace(spec);
    if (table === undefined || ht < 0) continue;
    const chains = { at: plus(table, ht), count: RAW_BUCKETS, stride: POINTER, head: 0, nulls: false };
    if (!walkBuckets(walk, { what: "raw sockets", ...chains })) return;
  }
  const ping = kernel.optionalPlace(pingTableSymbol);
  const { hash } = kernel.layout(pingTable);
  if (ping === undefined || hash < 0) return;
  const chains = { at: plus(ping, hash), count: PING_BUCKETS, stride: POINTER, head: 0 };
  walkBuckets(walk, { what: "ICMP sockets", ...chains, nulls: false });
}

function walkUnix(walk: Walk): void {
  const { kernel, namespaces } = walk;
  const { unix_buckets } = kernel.layout(net);
  const chains = { what: "unix sockets", count: UNIX_BUCKETS, stride: POINTER, head: 0, nulls: false };
  if (unix_buckets < 0) {
    walkBuckets(walk, { ...chains, at: kernel.optionalPlace(unixTable) });
    return;
  }
  for (const namespace of namespaces) {
    const at = readPointer(kernel.space, namespace, unix_buckets);
    if (!walkBuckets(walk, { ...chains, at })) return;
  }
}

function walkPacket(walk: Walk): void {
  const { packets } = walk.kernel.layout(net);
  for (const namespace of packets < 0 ? [] : walk.namespaces) {
    const chains = { at: plus(namespace, packets), count: 1, stride: POINTER, head: 0, nulls: false };
    if (!walkBuckets(walk, { what: "packet sockets", ...chains })) return;
  }
}

function walkNetlink(walk: Walk): void {
  const { kernel, budget } = walk;
  const pointer = kernel.optionalPlace(nlTable);
  const tables = pointer && readPointer(kernel.space, pointer);
  const layout = kernel.layout(netlinkTable);
  const { node } = kernel.layout(netlinkSock);
  for (let protocol = 0; protocol < NETLINK_TABLES; protocol++) {
    if (tables === undefined || isNull(tables)) {
      walk.broken("netlink sockets");
      return;
    }
    const at = plus(tables, protocol * layout.sizeof + layout.hash);
    const chain = walkRhashtable(kernel, at, node, MAX_CHAIN, budget);
    if (!chain.complete) walk.broken("netlink sockets");
    // Nothing in such a table points back.
    if (!visitAll(walk, chain, (socket) => hasSocket(kernel, socket))) return;
  }
}

interface Buckets {
  readonly what: string;
  readonly at: Halves | undefined;
  readonly count: number | undefined;
  /** Bytes from bucket to bucket, and to the chain's head within one. */
  readonly stride: number;
  readonly head: number;
  /** The chains end with an odd number, not with a null pointer. */
  readonly nulls: boolean;
}

/** Returns false when no more are wanted. */
function walkBuckets(walk: Walk, { what, at, count, stride, head, nulls }: Buckets): boolean {
  const { kernel, budget } = walk;
  const { skc_node } = kernel.layout(sockCommon);
  const { view } = kernel.memory;
  if (at === undefined || isNull(at) || count === undefined || head < 0) {
    walk.broken(what);
    return true;
  }
  const follow = nulls ? walkHlistNulls : walkHlist;
  const whole = forEachBucket(kernel, at, count, stride, budget, (index, bucket) => {
    const first = view.getInt32(index + head, true);
    if (nulls ? (first & 1) !== 0 : first === 0 && view.getInt32(index + head + 4, true) === 0) return "empty";
    const chain = plus(at, bucket * stride + head);
    const sockets = follow(kernel, chain, skc_node, MAX_CHAIN, budget);
    walk.retried(sockets.retried);
    if (!sockets.complete) walk.broken(what);
    const isLinked = (socket: Halves) => isHashed(kernel, plus(socket, skc_node));
    return visitAll(walk, sockets, isLinked) ? "followed" : "stop";
  });
  if (whole === "unreadable") walk.broken(what);
  return whole !== "stopped";
}

/** Returns false when no more are wanted. */
function visitAll(walk: Walk, chain: Pick<Addresses, "hi" | "lo">, isLinked: (socket: Halves) => boolean): boolean {
  return chain.hi.every((hi, i) => {
    const socket = { hi, lo: chain.lo[i]! };
    return walk.visit(socket, () => isLinked(socket));
  });
}

/** Undefined when a mask is none. */
function bucketsOf(mask: number | undefined): number | undefined {
  return mask === undefined || mask >= MAX_BUCKETS || (mask & (mask + 1)) !== 0 ? undefined : mask + 1;
}
