import type { Halves } from "../../bytes/address.ts";
import { struct } from "../../symbols/specs.ts";
import type { Kernel } from "../kernel.ts";
import { isNull, plus, readPointer, readU32 } from "../read.ts";
import { formatIpv4, formatIpv6 } from "./address.ts";
import { AF } from "./socket.ts";

/** What routes of IPv4 and IPv6 have in common. include/net/ip_fib.h: from 5.2 (979e276ebebd). */
const fibNhCommon = struct("fib_nh_common", {
  nhc_dev: "nhc_dev",
  nhc_flags: "nhc_flags",
  nhc_gw_family: "nhc_gw_family",
  nhc_gw: "nhc_gw",
  nhc_weight: "nhc_weight",
});
/** include/net/nexthop.h: objects that routes share, from 5.3 (ab84be7e54fc). */
const nexthop = struct("?nexthop", { is_group: "is_group", nh_info: "nh_info" });
const nhInfo = struct("?nh_info", { fib_nhc: "fib_nhc", reject_nh: "reject_nh" });
const nhGroup = struct("?nh_group", { num_nh: "num_nh", nh_entries: "nh_entries" });
const nhGrpEntry = struct("?nh_grp_entry", { nh: "nh" });
/** include/net/dst.h */
const dstMetrics = struct("dst_metrics", { metrics: "metrics" });

/** include/uapi/linux/rtnetlink.h; metrics are counted from 1. */
const RTAX_MTU = 2;
const RTAX_HOPLIMIT = 10;
/** RTNH_F_DEAD, _ONLINK, _OFFLOAD, _LINKDOWN and _TRAP: those that rtnetlink tells. */
const TOLD = 0x01 | 0x04 | 0x08 | 0x10 | 0x40;
/** Hops of one route. */
export const MAX_HOPS = 1 << 16;

export interface Hop {
  /** Where it leads by; undefined for itself. */
  readonly gateway: string | undefined;
  /** The struct net_device; undefined for a route that leads nowhere. */
  readonly device: Halves | undefined;
  /** RTNH_F_* */
  readonly flags: number;
}

export interface Route {
  readonly family: number;
  /** The struct net. */
  readonly net: Halves;
  readonly destination: string;
  readonly prefix: number;
  /** The address that packets are sent from. */
  readonly source: string | undefined;
  /** Its number: 254 main, 255 local. */
  readonly table: number;
  /** Less is better. */
  readonly metric: number;
  /** RTN_* */
  readonly type: number;
  /** Bytes; 0: the interface's. */
  readonly mtu: number;
  /** 0: the system's. */
  readonly hopLimit: number;
  /** RTPROT_*: who made it. */
  readonly protocol: number;
  /** One for each way that packets may go; one without a device where they are dropped. */
  readonly hops: readonly Hop[];
}

/** The hop at a struct fib_nh_common; undefined when it can't be read. */
export function readHop(kernel: Kernel, at: Halves): Hop | undefined {
  const { space, memory } = kernel;
  const layout = kernel.layout(fibNhCommon);
  const device = readPointer(space, at, layout.nhc_dev);
  const index = space.borrow(at.hi, at.lo, layout.sizeof);
  if (device === undefined || index < 0) return undefined;
  const { bytes } = memory;
  const gateway = index + layout.nhc_gw;
  const family = bytes[index + layout.nhc_gw_family];
  return {
    gateway:
      family === AF.inet ? formatIpv4(bytes, gateway) : family === AF.inet6 ? formatIpv6(bytes, gateway) : undefined,
    device: isNull(device) ? undefined : device,
    flags: bytes[index + layout.nhc_flags]! & TOLD,
  };
}

/** The hops of a struct nexthop, of a group those of its members; undefined when they can't be read. */
export function hopsOfObject(kernel: Kernel, at: Halves): Hop[] | undefined {
  const { space } = kernel;
  const layout = kernel.layout(nexthop);
  const info = readPointer(space, at, layout.nh_info);
  const group = readU32(space, at, layout.is_group);
  if (layout.nh_info < 0 || info === undefined || group === undefined) return undefined;
  if ((group & 0xff) === 0) {
    const hop = readHop(kernel, plus(info, kernel.layout(nhInfo).fib_nhc));
    return hop && [hop];
  }
  const members = kernel.layout(nhGroup);
  const entry = kernel.layout(nhGrpEntry);
  const count = readU32(space, info, members.num_nh);
  if (count === undefined) return undefined;
  const hops: Hop[] = [];
  for (let i = 0; i < (count & 0xffff); i++) {
    const member = readPointer(space, info, members.nh_entries + i * entry.sizeof + entry.nh);
    const single = member && readPointer(space, member, layout.nh_info);
    const hop = single && readHop(kernel, plus(single, kernel.layout(nhInfo).fib_nhc));
    if (hop === undefined) return undefined;
    hops.push(hop);
  }
  return hops;
}

/** What was set for a route, where `member` points to its metrics; 0 for what was not. */
export function metricsOf(kernel: Kernel, at: Halves, member: number): Pick<Route, "mtu" | "hopLimit"> | undefined {
  const metrics = readPointer(kernel.space, at, member);
  if (metrics === undefined) return undefined;
  if (isNull(metrics)) return { mtu: 0, hopLimit: 0 };
  const start = kernel.layout(dstMetrics).metrics;
  const mtu = readU32(kernel.space, metrics, start + (RTAX_MTU - 1) * 4);
  const hopLimit = readU32(kernel.space, metrics, start + (RTAX_HOPLIMIT - 1) * 4);
  return mtu === undefined || hopLimit === undefined ? undefined : { mtu, hopLimit };
}
