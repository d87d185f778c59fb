import type { Budget } from "../../budget.ts";
import type { Halves } from "../../bytes/address.ts";
import { struct, symbol } from "../../symbols/specs.ts";
import { forEachBucket } from "../buckets.ts";
import { followChain } from "../chain.ts";
import type { Kernel } from "../kernel.ts";
import { isNull, plus, readPointer, readU32, sameAddress } from "../read.ts";
import { formatIpv4, formatIpv6, formatLinkAddress } from "./address.ts";
import { netAt } from "./namespaces.ts";
import { AF } from "./socket.ts";

/** include/net/neighbour.h */
const neighTable = struct("neigh_table", { nht: "nht", key_len: "key_len" });
/** From 6.13 (f7f52738637f) chains are hlists, whose first member is the next as well. */
const neighHashTable = struct("neigh_hash_table", {
  buckets: ["hash_heads", "hash_buckets"],
  hash_shift: "hash_shift",
});
const neighbour = struct("neighbour", {
  next: ["hash", "next"],
  dev: "dev",
  nud_state: "nud_state",
  tbl: "tbl",
  ha: "ha",
  primary_key: "primary_key",
});
const netDevice = struct("net_device", { nd_net: "?nd_net.net", ifindex: "ifindex", addr_len: "addr_len" });
const tables = [
  { family: AF.inet, spec: symbol("?arp_tbl") },
  { family: AF.inet6, spec: symbol("?nd_tbl") },
];

const POINTER = 8;
/** The kernel makes none of more buckets (neigh_hash_alloc: as gc_thresh3 allows). */
const MAX_SHIFT = 24;
const MAX_CHAIN = 1 << 20;
const MAX_LINK_ADDRESS = 32;

/** include/uapi/linux/neighbour.h; `ip neigh` calls them so. */
const STATES: Readonly<Record<number, string>> = {
  0: "none",
  1: "incomplete",
  2: "reachable",
  4: "stale",
  8: "delay",
  16: "probe",
  32: "failed",
  64: "noarp",
  128: "permanent",
};

export interface Neighbour {
  readonly at: Halves;
  readonly address: string;
  /** Of its link; zeros while it is not known. */
  readonly linkAddress: string;
  readonly state: string;
  /** The struct net_device that it is reached by. */
  readonly device: Halves;
  readonly interfaceIndex: number;
  readonly net: Halves | undefined;
}

/**
 * Visits what is known of the addresses of links: ARP's for IPv4, and neighbour discovery's for IPv6.
 *
 * @param families that are wanted; undefined: both
 * @param visit returns false to stop
 * @returns false when a table could not be followed to its end
 */
export function walkNeighbours(
  kernel: Kernel,
  families: ReadonlySet<number> | undefined,
  budget: Budget,
  visit: (neighbour: Neighbour) => boolean,
): boolean {
  let complete = true;
  let stopped = false;
  for (const { family, spec } of tables) {
    const table = kernel.optionalPlace(spec);
    if (table === undefined || stopped || families?.has(family) === false) continue;
    const walked = walkTable(kernel, table, budget, (found) => {
      stopped = !visit(found);
      return !stopped;
    });
    complete &&= walked || stopped;
  }
  return complete;
}

function walkTable(kernel: Kernel, table: Halves, budget: Budget, visit: (neighbour: Neighbour) => boolean): boolean {
  const { space, memory } = kernel;
  const { nht, key_len } = kernel.layout(neighTable);
  const hash = kernel.layout(neighHashTable);
  // Before 6.13 a chain leads from entry to entry; from then on from member to member.
  const chained = kernel.layout(neighbour).next;
  const at = readPointer(space, table, nht);
  const length = readU32(space, table, key_len);
  const shift = at && readU32(space, at, hash.hash_shift);
  const buckets = at && readPointer(space, at, hash.buckets);
  if (buckets === undefined || shift === undefined || shift > MAX_SHIFT || (length !== 4 && length !== 16))
    return false;
  const walked = forEachBucket(kernel, buckets, 2 ** shift, POINTER, budget, (index) => {
    const first = { hi: memory.view.getInt32(index + 4, true), lo: memory.view.getInt32(index, true) };
    if (isNull(first)) return "empty";
    const ended = followChain(kernel, first, 0, MAX_CHAIN, budget, (entry) => {
      const found = readNeighbour(kernel, plus(entry, -chained), table, length);
      return found !== undefined && visit(found);
    });
    return ended ? "followed" : "stop";
  });
  return walked === "whole";
}

/** Undefined also for what is no entry of the table, as freed memory soon is none. */
function readNeighbour(kernel: Kernel, at: Halves, table: Halves, length: 4 | 16): Neighbour | undefined {
  const { space, memory } = kernel;
  const layout = kernel.layout(neighbour);
  const device = kernel.layout(netDevice);
  const of = readPointer(space, at, layout.tbl);
  const dev = readPointer(space, at, layout.dev);
  if (of === undefined || !sameAddress(of, table) || dev === undefined || isNull(dev)) return undefined;
  const interfaceIndex = readU32(space, dev, device.ifindex);
  const linkLength = readU32(space, dev, device.addr_len);
  const index = space.borrow(at.hi, at.lo, layout.primary_key + length);
  if (index < 0 || interfaceIndex === undefined || linkLength === undefined) return undefined;
  const { bytes } = memory;
  const key = index + layout.primary_key;
  const state = bytes[index + layout.nud_state]!;
  return {
    at,
    address: length === 4 ? formatIpv4(bytes, key) : formatIpv6(bytes, key),
    linkAddress: formatLinkAddress(bytes, index + layout.ha, Math.min(linkLength & 0xff, MAX_LINK_ADDRESS)),
    state: STATES[state] ?? String(state),
    device: dev,
    interfaceIndex,
    net: netAt(kernel, dev, device.nd_net),
  };
}
