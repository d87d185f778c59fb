import type { Budget } from "../../budget.ts";
import type { Halves } from "../../bytes/address.ts";
import { struct } from "../../symbols/specs.ts";
import { forEachBucket } from "../buckets.ts";
import { walkHlist } from "../hlist.ts";
import type { Kernel } from "../kernel.ts";
import { isNull, plus, readPointer, readU32 } from "../read.ts";
import { formatIpv4 } from "./address.ts";
import { type Hop, hopsOfObject, MAX_HOPS, metricsOf, type Route, readHop } from "./route.ts";
import { AF } from "./socket.ts";

/** include/net/netns/ipv4.h; `fib_main` is there with CONFIG_IP_MULTIPLE_TABLES only. */
const net = struct("net", { fib_table_hash: "ipv4.fib_table_hash", fib_main: "?ipv4.fib_main" });
/** include/net/ip_fib.h, net/ipv4/fib_trie.c, fib_lookup.h */
const fibTable = struct("fib_table", { tb_hlist: "tb_hlist", tb_id: "tb_id", tb_data: "tb_data" });
const trie = struct("trie", { kv: "kv" });
const keyVector = struct("key_vector", { key: "key", pos: "pos", bits: "bits", leaf: "leaf", tnode: "tnode" });
const fibAlias = struct("fib_alias", {
  fa_list: "fa_list",
  fa_info: "fa_info",
  fa_type: "fa_type",
  fa_slen: "fa_slen",
  tb_id: "tb_id",
});
const fibInfo = struct("fib_info", {
  fib_prefsrc: "fib_prefsrc",
  fib_priority: "fib_priority",
  fib_protocol: "fib_protocol",
  fib_metrics: "fib_metrics",
  fib_nhs: "fib_nhs",
  nh: "?nh",
  fib_nh: "fib_nh",
});
const fibNh = struct("fib_nh", { nh_common: "nh_common" });

/** FIB_TABLE_HASHSZ, and that without more tables than two. */
const TABLE_BUCKETS = 256;
const FEW_BUCKETS = 2;
const POINTER = 8;
const KEY_BITS = 32;
const MAX_TABLES = 1 << 20;
const MAX_ALIASES = 1 << 16;
/** A node has at most 2^20 children before the kernel takes as many again: RAM ends it sooner. */
const MAX_CHILD_BITS = 24;

/**
 * Visits the IPv4 routes of a network namespace, of every table.
 *
 * @param visit returns false to stop
 * @returns false when they could not be followed to their end
 */
export function walkIpv4Routes(
  kernel: Kernel,
  namespace: Halves,
  budget: Budget,
  visit: (route: Route) => boolean,
): boolean {
  const { space } = kernel;
  const layout = kernel.layout(net);
  const { tb_hlist, tb_id, tb_data } = kernel.layout(fibTable);
  const hash = readPointer(space, namespace, layout.fib_table_hash);
  if (hash === undefined || isNull(hash)) return false;
  let complete = true;
  const count = layout.fib_main < 0 ? FEW_BUCKETS : TABLE_BUCKETS;
  const walked = forEachBucket(kernel, hash, count, POINTER, budget, (index, bucket) => {
    const { view } = kernel.memory;
    if (view.getInt32(index, true) === 0 && view.getInt32(index + 4, true) === 0) return "empty";
    const tables = walkHlist(kernel, plus(hash, bucket * POINTER), tb_hlist, MAX_TABLES, budget);
    complete &&= tables.complete;
    for (let i = 0; i < tables.count; i++) {
      const table = { hi: tables.hi[i]!, lo: tables.lo[i]! };
      const id = readU32(space, table, tb_id);
      const data = readPointer(space, table, tb_data);
      if (id === undefined || data === undefined) {
        complete = false;
        continue;
      }
      const walk: TrieWalk = { kernel, namespace, table: id, budget, visit, complete: true, stopped: false };
      walkChildren(walk, plus(data, kernel.layout(trie).kv), 1, KEY_BITS);
      complete &&= walk.complete;
      if (walk.stopped) return "stop";
    }
    return "followed";
  });
  return complete && walked !== "unreadable";
}

interface TrieWalk {
  readonly kernel: Kernel;
  readonly namespace: Halves;
  readonly table: number;
  readonly budget: Budget;
  readonly visit: (route: Route) => boolean;
  complete: boolean;
  stopped: boolean;
}

/** @param above position of the node's own bits: those of nodes below it must be lower, which also rules out loops */
function walkChildren(walk: TrieWalk, node: Halves, count: number, above: number): void {
  const { kernel, budget } = walk;
  const { space, memory } = kernel;
  const layout = kernel.layout(keyVector);
  for (let i = 0; i < count && !walk.stopped; i++) {
    budget.spend();
    const child = readPointer(space, node, layout.tnode + i * POINTER);
    if (child === undefined) {
      walk.complete = false;
      return;
    }
    if (isNull(child)) continue;
    const index = space.borrow(child.hi, child.lo, layout.sizeof);
    const pos = index < 0 ? KEY_BITS : memory.bytes[index + layout.pos]!;
    const bits = index < 0 ? 0 : memory.bytes[index + layout.bits]!;
    if (index < 0 || pos + bits > above || bits > MAX_CHILD_BITS) walk.complete = false;
    else if (bits > 0) walkChildren(walk, child, 2 ** bits, pos);
    else walkLeaf(walk, child, memory.view.getUint32(index + layout.key, true));
  }
}

function walkLeaf(walk: TrieWalk, leaf: Halves, key: number): void {
  const { kernel, budget } = walk;
  const alias = kernel.layout(fibAlias);
  const found = walkHlist(kernel, plus(leaf, kernel.layout(keyVector).leaf), alias.fa_list, MAX_ALIASES, budget);
  walk.complete &&= found.complete;
  for (let i = 0; i < found.count && !walk.stopped; i++) {
    const at = { hi: found.hi[i]!, lo: found.lo[i]! };
    // The tables local and main share one trie until there is a rule of one's own (0ddcf43d5d4a).
    if (readU32(kernel.space, at, alias.tb_id) !== walk.table) continue;
    const route = readRoute(walk, at, key);
    if (route === undefined) walk.complete = false;
    else if (!walk.visit(route)) walk.stopped = true;
  }
}

function readRoute({ kernel, namespace, table, budget }: TrieWalk, at: Halves, key: number): Route | undefined {
  const { space, memory } = kernel;
  const alias = kernel.layout(fibAlias);
  const layout = kernel.layout(fibInfo);
  const info = readPointer(space, at, alias.fa_info);
  const aliasIndex = space.borrow(at.hi, at.lo, alias.sizeof);
  if (info === undefined || aliasIndex < 0) return undefined;
  const type = memory.bytes[aliasIndex + alias.fa_type]!;
  const suffix = memory.bytes[aliasIndex + alias.fa_slen]!;
  const index = space.borrow(info.hi, info.lo, layout.sizeof);
  if (index < 0 || suffix > KEY_BITS) return undefined;
  const { bytes, view } = memory;
  const source = view.getUint32(index + layout.fib_prefsrc, true);
  const known = {
    family: AF.inet,
    net: namespace,
    destination: formatIpv4(networkOrder(suffix === KEY_BITS ? 0 : (key >>> suffix) << suffix), 0),
    prefix: KEY_BITS - suffix,
    source: source === 0 ? undefined : formatIpv4(bytes, index + layout.fib_prefsrc),
    table,
    metric: view.getUint32(index + layout.fib_priority, true),
    type,
    protocol: bytes[index + layout.fib_protocol]!,
  };
  const metrics = metricsOf(kernel, info, layout.fib_metrics);
  const hops = readHops(kernel, info, budget);
  return hops === undefined || metrics === undefined ? undefined : { ...known, ...metrics, hops };
}

function readHops(kernel: Kernel, info: Halves, budget: Budget): Hop[] | undefined {
  const { space } = kernel;
  const layout = kernel.layout(fibInfo);
  const { nh_common, sizeof } = kernel.layout(fibNh);
  const object = layout.nh < 0 ? undefined : readPointer(space, info, layout.nh);
  if (object !== undefined && !isNull(object)) return hopsOfObject(kernel, object);
  const count = readU32(space, info, layout.fib_nhs);
  if (count === undefined || count > MAX_HOPS) return undefined;
  const hops: Hop[] = [];
  for (let i = 0; i < count; i++) {
    budget.spend();
    const hop = readHop(kernel, plus(info, layout.fib_nh + i * sizeof + nh_common));
    if (hop === undefined) return undefined;
    hops.push(hop);
  }
  return hops;
}

function networkOrder(value: number): Uint8Array {
  return Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value);
}
