import type { Budget } from "../../budget.ts";
import type { Halves } from "../../bytes/address.ts";
import { struct, symbol } from "../../symbols/specs.ts";
import type { Kernel } from "../kernel.ts";
import { describeAddress } from "../kernel-address.ts";
import { cpus, perCpu } from "../per-cpu.ts";
import { isNull, plus, readNumber, readPointer, readU32, sameAddress } from "../read.ts";

/** include/linux/netdevice.h */
const netDevice = struct("net_device", {
  netdev_ops: "netdev_ops",
  stats: "stats",
  /** One pointer for whichever kind a driver has. */
  counters: ["?tstats", "?lstats"],
  /** From 6.7 (34d21de99cea); a byte. */
  pcpu_stat_type: "?pcpu_stat_type",
  /** Per CPU from 5.18 (625788b58445), before two numbers. */
  core_stats: "?core_stats",
  rx_dropped: "?rx_dropped",
  tx_dropped: "?tx_dropped",
  features: "features",
  xdp_prog: "?xdp_prog",
});
const netDeviceOps = struct("net_device_ops", { ndo_get_stats64: "ndo_get_stats64", ndo_get_stats: "ndo_get_stats" });
const netDeviceStats = struct("net_device_stats", {
  rxPackets: "rx_packets",
  txPackets: "tx_packets",
  rxBytes: "rx_bytes",
  txBytes: "tx_bytes",
  rxErrors: "rx_errors",
  txErrors: "tx_errors",
  rxDropped: "rx_dropped",
  txDropped: "tx_dropped",
  collisions: "collisions",
});
/** From 5.18; what the stack itself dropped. */
const coreStats = struct("?net_device_core_stats", { rxDropped: "rx_dropped", txDropped: "tx_dropped" });
/** Counters of one CPU: of tunnels and the like, of the loopback and its likes, and of vrf. */
const tunnelStats = struct("pcpu_sw_netstats", {
  rxPackets: "rx_packets",
  rxBytes: "rx_bytes",
  txPackets: "tx_packets",
  txBytes: "tx_bytes",
});
const loopbackStats = struct("pcpu_lstats", { packets: "packets", bytes: "bytes" });
const droppingStats = struct("?pcpu_dstats", {
  rxPackets: ["?rx_packets", "?rx_pkts"],
  rxBytes: "?rx_bytes",
  rxDropped: ["?rx_drops", "?rx_drps"],
  txPackets: ["?tx_packets", "?tx_pkts"],
  txBytes: "?tx_bytes",
  txDropped: ["?tx_drops", "?tx_drps"],
});

const OWN = [symbol("?dev_get_tstats64"), symbol("?loopback_get_stats64")];

/** enum netdev_stat_type */
const LSTATS = 1;
const TSTATS = 2;
const DSTATS = 3;
/** NETDEV_ALIGN: a driver's own data begin behind the net_device at a multiple of this. */
const NETDEV_ALIGN = 32;
/** NETIF_F_GRO_BIT (include/linux/netdev_features.h) */
const FEATURE_GRO = 1 << 14;

type Counter =
  | "rxPackets"
  | "txPackets"
  | "rxBytes"
  | "txBytes"
  | "rxErrors"
  | "txErrors"
  | "rxDropped"
  | "txDropped"
  | "collisions";
const COUNTERS = [
  "rxPackets",
  "txPackets",
  "rxBytes",
  "txBytes",
  "rxErrors",
  "txErrors",
  "rxDropped",
  "txDropped",
  "collisions",
] as const;
/** Packets and bytes that an interface has counted. */
export type DeviceStatistics = Record<Counter, number>;

/** Thrown about within: what can't be read. */
class Unreadable extends Error {}

/**
 * What dev_get_stats() gives for a struct net_device. Drivers that count in their own way are known only by the names of
 * their functions, and few of them: "unsupported" for another.
 */
export function deviceStatistics(
  kernel: Kernel,
  at: Halves,
  budget: Budget,
): DeviceStatistics | "unsupported" | "unreadable" {
  try {
    const found = ofDriver(kernel, at, budget);
    if (found === undefined) return "unsupported";
    addCore(kernel, at, found);
    return found;
  } catch (error) {
    if (error instanceof Unreadable) return "unreadable";
    throw error;
  }
}

function ofDriver(kernel: Kernel, at: Halves, budget: Budget): DeviceStatistics | undefined {
  const device = kernel.layout(netDevice);
  const operations = pointer(kernel, at, device.netdev_ops);
  if (isNull(operations)) return ofDevice(kernel, at);
  const layout = kernel.layout(netDeviceOps);
  const get64 = pointer(kernel, operations, layout.ndo_get_stats64);
  if (isNull(get64)) {
    if (!isNull(pointer(kernel, operations, layout.ndo_get_stats))) return undefined;
    const kind = device.pcpu_stat_type < 0 ? 0 : (readU32(kernel.space, at, device.pcpu_stat_type) ?? 0) & 0xff;
    if (kind === TSTATS) return withTunnel(kernel, at, budget);
    return kind === DSTATS ? withDropping(kernel, at, budget) : ofDevice(kernel, at);
  }
  switch (nameOf(kernel, get64, budget)) {
    case "dev_get_tstats64":
    // With frame errors beside.
    case "tun_net_get_stats64":
      return withTunnel(kernel, at, budget);
    case "loopback_get_stats64": {
      const { packets, bytes } = loopback(kernel, at, budget);
      return { ...nothing(), rxPackets: packets, txPackets: packets, rxBytes: bytes, txBytes: bytes };
    }
    case "dummy_get_stats64": {
      const { packets, bytes } = loopback(kernel, at, budget);
      return { ...nothing(), txPackets: packets, txBytes: bytes };
    }
    case "veth_get_stats64":
      return ofVeth(kernel, at, budget);
    default:
      return undefined;
  }
}

/** Name of a driver's function. Those of the kernel's own image are told at once. */
function nameOf(kernel: Kernel, at: Halves, budget: Budget): string | undefined {
  for (const spec of OWN) {
    const place = kernel.optionalPlace(spec);
    if (place !== undefined && sameAddress(place, at)) return spec.name;
  }
  return describeAddress(kernel, at, budget).symbol;
}

function nothing(): DeviceStatistics {
  return Object.fromEntries(COUNTERS.map((name) => [name, 0])) as DeviceStatistics;
}

/** net_device.stats: of drivers that have none of their own. */
function ofDevice(kernel: Kernel, at: Halves): DeviceStatistics {
  const from = kernel.layout(netDevice).stats;
  const layout = kernel.layout(netDeviceStats);
  const found = nothing();
  for (const name of COUNTERS) found[name] = number(kernel, at, from + layout[name]);
  return found;
}

/** dev_get_tstats64 */
function withTunnel(kernel: Kernel, at: Halves, budget: Budget): DeviceStatistics {
  const found = ofDevice(kernel, at);
  const layout = kernel.layout(tunnelStats);
  eachCpu(kernel, at, budget, (counters) => {
    for (const name of ["rxPackets", "rxBytes", "txPackets", "txBytes"] as const)
      found[name] += number(kernel, counters, layout[name]);
  });
  return found;
}

/** dev_get_dstats64 */
function withDropping(kernel: Kernel, at: Halves, budget: Budget): DeviceStatistics | undefined {
  const layout = kernel.layout(droppingStats);
  const found = ofDevice(kernel, at);
  if (layout.rxPackets < 0) return undefined;
  eachCpu(kernel, at, budget, (counters) => {
    for (const name of ["rxPackets", "rxBytes", "rxDropped", "txPackets", "txBytes", "txDropped"] as const)
      found[name] += number(kernel, counters, layout[name]);
  });
  return found;
}

/** dev_lstats_read */
function loopback(kernel: Kernel, at: Halves, budget: Budget): { packets: number; bytes: number } {
  const layout = kernel.layout(loopbackStats);
  const found = { packets: 0, bytes: 0 };
  eachCpu(kernel, at, budget, (counters) => {
    found.packets += number(kernel, counters, layout.packets);
    found.bytes += number(kernel, counters, layout.bytes);
  });
  return found;
}

/**
 * What one end of a pair has sent the other has received. Counts of queues beside these are made only where packets go
 * through GRO or a program of XDP; their place is not known here.
 */
function ofVeth(kernel: Kernel, at: Halves, budget: Budget): DeviceStatistics | undefined {
  const device = kernel.layout(netDevice);
  // The beginning of struct veth_priv (drivers/net/veth.c): the other end, and what was dropped on the way there.
  const own = Math.ceil(device.sizeof / NETDEV_ALIGN) * NETDEV_ALIGN;
  const peer = pointer(kernel, at, own);
  const isPlain = (end: Halves) =>
    (number(kernel, end, device.features) & FEATURE_GRO) === 0 &&
    (device.xdp_prog < 0 || isNull(pointer(kernel, end, device.xdp_prog)));
  if (!isPlain(at)) return undefined;
  const found = nothing();
  const sent = sentByVeth(kernel, at, budget);
  if (sent === undefined) return undefined;
  found.txPackets = sent.packets;
  found.txBytes = sent.bytes;
  found.txDropped = number(kernel, at, own + 8);
  if (isNull(peer)) return found;
  if (!sameAddress(pointer(kernel, peer, own), at) || !isPlain(peer)) return undefined;
  const received = sentByVeth(kernel, peer, budget);
  if (received === undefined) return undefined;
  found.rxPackets = received.packets;
  found.rxBytes = received.bytes;
  return found;
}

/** In lstats before 6.7 (6f2684bf2b44), then in tstats. */
function sentByVeth(kernel: Kernel, at: Halves, budget: Budget): { packets: number; bytes: number } | undefined {
  const { pcpu_stat_type } = kernel.layout(netDevice);
  const kind = pcpu_stat_type < 0 ? LSTATS : (readU32(kernel.space, at, pcpu_stat_type) ?? 0) & 0xff;
  if (kind === LSTATS) return loopback(kernel, at, budget);
  if (kind !== TSTATS) return undefined;
  const layout = kernel.layout(tunnelStats);
  const found = { packets: 0, bytes: 0 };
  eachCpu(kernel, at, budget, (counters) => {
    found.packets += number(kernel, counters, layout.txPackets);
    found.bytes += number(kernel, counters, layout.txBytes);
  });
  return found;
}

function addCore(kernel: Kernel, at: Halves, found: DeviceStatistics): void {
  const device = kernel.layout(netDevice);
  if (device.rx_dropped >= 0) found.rxDropped += number(kernel, at, device.rx_dropped);
  if (device.tx_dropped >= 0) found.txDropped += number(kernel, at, device.tx_dropped);
  const { rxDropped, txDropped } = kernel.layout(coreStats);
  const base = device.core_stats < 0 ? undefined : pointer(kernel, at, device.core_stats);
  if (rxDropped < 0 || base === undefined || isNull(base)) return;
  for (const cpu of cpus(kernel)) {
    const counters = perCpu(kernel, base, cpu);
    if (counters === undefined) throw new Unreadable();
    found.rxDropped += number(kernel, counters, rxDropped);
    found.txDropped += number(kernel, counters, txDropped);
  }
}

function eachCpu(kernel: Kernel, at: Halves, budget: Budget, visit: (counters: Halves) => void): void {
  const { counters } = kernel.layout(netDevice);
  const base = counters < 0 ? undefined : pointer(kernel, at, counters);
  if (base === undefined || isNull(base)) return;
  for (const cpu of cpus(kernel)) {
    budget.spend();
    const own = perCpu(kernel, base, cpu);
    if (own === undefined) throw new Unreadable();
    visit(own);
  }
}

function pointer(kernel: Kernel, at: Halves, offset: number): Halves {
  const found = readPointer(kernel.space, at, offset);
  if (found === undefined) throw new Unreadable();
  return found;
}

function number(kernel: Kernel, at: Halves, offset: number): number {
  const found = readNumber(kernel.space, plus(at, offset));
  if (found === undefined) throw new Unreadable();
  return found;
}
