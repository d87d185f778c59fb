import type { Budget } from "../../budget.ts";
import type { Halves } from "../../bytes/address.ts";
import { struct } from "../../symbols/specs.ts";
import { forEachBucket } from "../buckets.ts";
import { followChain } from "../chain.ts";
import { walkHlist } from "../hlist.ts";
import type { Kernel } from "../kernel.ts";
import { isNull, plus, readPointer, readU32, sameAddress } from "../read.ts";
import { formatIpv6 } from "./address.ts";
import { type Hop, hopsOfObject, metricsOf, type Route, readHop } from "./route.ts";
import { AF } from "./socket.ts";

/** include/net/netns/ipv6.h; `fib6_local_tbl` is there with CONFIG_IPV6_MULTIPLE_TABLES only. */
const net = struct("net", {
  fib_table_hash: "?ipv6.fib_table_hash",
  fib6_local_tbl: "?ipv6.fib6_local_tbl",
  fib6_null_entry: "?ipv6.fib6_null_entry",
});
/** include/net/ip6_fib.h */
const fib6Table = struct("?fib6_table", { tb6_hlist: "tb6_hlist", tb6_id: "tb6_id", tb6_root: "tb6_root" });
const fib6Node = struct("?fib6_node", {
  parent: "parent",
  left: "left",
  right: "right",
  subtree: "?subtree",
  leaf: "leaf",
  fn_flags: "fn_flags",
});
const fib6Info = struct("?fib6_info", {
  fib6_next: "fib6_next",
  fib6_metrics: "fib6_metrics",
  fib6_metric: "fib6_metric",
  fib6_protocol: "fib6_protocol",
  fib6_type: "fib6_type",
  dst: "fib6_dst.addr",
  dst_plen: "fib6_dst.plen",
  prefsrc: "fib6_prefsrc.addr",
  prefsrc_plen: "fib6_prefsrc.plen",
  nh: "?nh",
  fib6_nh: "fib6_nh",
});
const fib6Nh = struct("?fib6_nh", { nh_common: "nh_common" });

/** FIB6_TABLE_HASHSZ, and that without more tables than one. */
const TABLE_BUCKETS = 256;
const POINTER = 8;
const MAX_TABLES = 1 << 20;
/** A node with routes (RTN_RTINFO). */
const RTN_RTINFO = 4;
/** Bits of an address, for the destination and again for sources, with a node that joins them. */
const MAX_DEPTH = 260;
/** Routes to one destination. */
const MAX_ROUTES = 1 << 16;
const MAX_PREFIX = 128;

/** Visits the IPv6 routes of a network namespace, of every table; see walkIpv4Routes. */
export function walkIpv6Routes(
  kernel: Kernel,
  namespace: Halves,
  budget: Budget,
  visit: (route: Route) => boolean,
): boolean {
  const { space } = kernel;
  const layout = kernel.layout(net);
  const table = kernel.layout(fib6Table);
  // A kernel without IPv6, or with IPv6 as a module.
  if (layout.fib_table_hash < 0 || table.tb6_id < 0 || kernel.layout(fib6Info).fib6_next < 0) return true;
  const hash = readPointer(space, namespace, layout.fib_table_hash);
  const none = readPointer(space, namespace, layout.fib6_null_entry);
  if (hash === undefined || none === undefined) return false;
  // Switched off (ipv6.disable=1).
  if (isNull(hash)) return true;
  let complete = true;
  const count = layout.fib6_local_tbl < 0 ? 1 : TABLE_BUCKETS;
  const walked = forEachBucket(kernel, hash, count, POINTER, budget, (index, bucket) => {
    const { view } = kernel.memory;
    if (view.getInt32(index, true) === 0 && view.getInt32(index + 4, true) === 0) return "empty";
    const tables = walkHlist(kernel, plus(hash, bucket * POINTER), table.tb6_hlist, MAX_TABLES, budget);
    complete &&= tables.complete;
    for (let i = 0; i < tables.count; i++) {
      const at = { hi: tables.hi[i]!, lo: tables.lo[i]! };
      const id = readU32(space, at, table.tb6_id);
      const walk: TreeWalk = { kernel, namespace, none, table: id ?? 0, budget, visit, complete: true, stopped: false };
      if (id === undefined) complete = false;
      else walkNode(walk, plus(at, table.tb6_root), undefined, 0);
      complete &&= walk.complete;
      if (walk.stopped) return "stop";
    }
    return "followed";
  });
  return complete && walked !== "unreadable";
}

interface TreeWalk {
  readonly kernel: Kernel;
  readonly namespace: Halves;
  /** What stands where there is no route. */
  readonly none: Halves;
  readonly table: number;
  readonly budget: Budget;
  readonly visit: (route: Route) => boolean;
  complete: boolean;
  stopped: boolean;
}

/** Each node must know the one above it, or it is another tree's by now. */
function walkNode(walk: TreeWalk, at: Halves, parent: Halves | undefined, depth: number): void {
  const { kernel, budget } = walk;
  const { space } = kernel;
  const layout = kernel.layout(fib6Node);
  budget.spend();
  const above = readPointer(space, at, layout.parent);
  const flags = readU32(space, at, layout.fn_flags);
  if (above === undefined || flags === undefined || depth > MAX_DEPTH || (parent && !sameAddress(above, parent))) {
    walk.complete = false;
    return;
  }
  if ((flags & RTN_RTINFO) !== 0) walkLeaf(walk, at);
  for (const branch of [layout.left, layout.right, layout.subtree]) {
    if (branch < 0 || walk.stopped) continue;
    const child = readPointer(space, at, branch);
    if (child === undefined) walk.complete = false;
    else if (!isNull(child)) walkNode(walk, child, at, depth + 1);
  }
}

function walkLeaf(walk: TreeWalk, node: Halves): void {
  const { kernel, budget, none } = walk;
  const { space } = kernel;
  const first = readPointer(space, node, kernel.layout(fib6Node).leaf);
  const ended = followChain(kernel, first, kernel.layout(fib6Info).fib6_next, MAX_ROUTES, budget, (at) => {
    if (sameAddress(at, none)) return true;
    const route = readRoute(walk, at);
    if (route === undefined) walk.complete = false;
    else walk.stopped = !walk.visit(route);
    return !walk.stopped;
  });
  walk.complete &&= ended || walk.stopped;
}

function readRoute({ kernel, namespace, table }: TreeWalk, at: Halves): Route | undefined {
  const { space, memory } = kernel;
  const layout = kernel.layout(fib6Info);
  const index = space.borrow(at.hi, at.lo, layout.sizeof);
  if (index < 0) return undefined;
  const { bytes, view } = memory;
  const prefix = view.getUint32(index + layout.dst_plen, true);
  if (prefix > MAX_PREFIX) return undefined;
  const known = {
    family: AF.inet6,
    net: namespace,
    destination: formatIpv6(bytes, index + layout.dst),
    prefix,
    source:
      view.getUint32(index + layout.prefsrc_plen, true) === 0 ? undefined : formatIpv6(bytes, index + layout.prefsrc),
    table,
    metric: view.getUint32(index + layout.fib6_metric, true),
    type: bytes[index + layout.fib6_type]!,
    protocol: bytes[index + layout.fib6_protocol]!,
  };
  const metrics = metricsOf(kernel, at, layout.fib6_metrics);
  const hops = readHops(kernel, at);
  return hops === undefined || metrics === undefined ? undefined : { ...known, ...metrics, hops };
}

/** Several ways to a destination are as many routes; only an object that they share can be a group. */
function readHops(kernel: Kernel, at: Halves): Hop[] | undefined {
  const layout = kernel.layout(fib6Info);
  const object = layout.nh < 0 ? undefined : readPointer(kernel.space, at, layout.nh);
  if (object !== undefined && !isNull(object)) return hopsOfObject(kernel, object);
  const hop = readHop(kernel, plus(at, layout.fib6_nh + kernel.layout(fib6Nh).nh_common));
  return hop && [hop];
}
