import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import { struct, symbol } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { walkList } from "./list.ts";
import { netInode, netNamespaces } from "./net/namespaces.ts";
import { isNull, plus, readCString, readPointer, readU32, sameAddress } from "./read.ts";

/** Netfilter's hooks (net/netfilter/core.c): per network namespace, family and place an array in order of priority. */

const netStruct = struct("?net", {
  hooks_ipv4: "?nf.hooks_ipv4",
  hooks_ipv6: "?nf.hooks_ipv6",
  hooks_arp: "?nf.hooks_arp",
  hooks_bridge: "?nf.hooks_bridge",
  dev_base_head: "?dev_base_head",
});
const hookEntries = struct("?nf_hook_entries", { num: "num_hook_entries", hooks: "hooks" });
const hookEntry = struct("?nf_hook_entry", { hook: "hook", priv: "priv" });
const hookOps = struct("?nf_hook_ops", {
  hook: "hook",
  priv: "priv",
  priority: "priority",
  hooknum: "hooknum",
});
const netDevice = struct("?net_device", {
  name: "name",
  dev_list: "dev_list",
  /** With CONFIG_NETFILTER_INGRESS (4.2) and CONFIG_NETFILTER_EGRESS (5.16: 42df6e1d221d). */
  ingress: ["?nf_hooks_ingress"],
  egress: ["?nf_hooks_egress"],
});
/** What the entry of a removed hook calls until its array is made anew. */
const acceptAll = symbol("?accept_all");

/** enum nf_inet_hooks, enum nf_arp_hooks (include/uapi/linux/netfilter.h, netfilter_arp.h); bridges have those of inet. */
const INET_HOOKS = ["prerouting", "input", "forward", "output", "postrouting"];
const ARP_HOOKS = ["input", "output", "forward"];
const families = [
  { family: "ipv4", member: "hooks_ipv4", hooks: INET_HOOKS },
  { family: "ipv6", member: "hooks_ipv6", hooks: INET_HOOKS },
  { family: "arp", member: "hooks_arp", hooks: ARP_HOOKS },
  { family: "bridge", member: "hooks_bridge", hooks: INET_HOOKS },
] as const;

/** MAX_HOOK_COUNT (net/netfilter/core.c). */
const MAX_HOOKS = 1024;
const MAX_DEVICES = 65_536;
const IFNAMSIZ = 16;

export interface NetfilterHook {
  readonly netns: number | undefined;
  readonly family: string;
  readonly hook: string;
  /** Device that a hook of family netdev is at. */
  readonly device: Uint8Array | undefined;
  /** Undefined where what was registered can't be read. */
  readonly priority: number | undefined;
  readonly function: Halves;
  /** What the function is given; of an nftables chain its struct. */
  readonly priv: Halves;
  /** Whether function and argument are those that were registered; undefined where that can't be read. */
  readonly registered: boolean | undefined;
}

export interface NetfilterWalk {
  readonly retried: number;
  readonly missing: readonly string[];
  /** False for a kernel without netfilter. */
  readonly supported: boolean;
}

/** Which hooks are wanted; undefined: all. */
export interface NetfilterFilter {
  readonly namespaces: ReadonlySet<number> | undefined;
  readonly families: ReadonlySet<string> | undefined;
  readonly hooks: ReadonlySet<string> | undefined;
}

/** Visits the hooks of every network namespace in the order of their calls. */
export function walkNetfilterHooks(
  kernel: Kernel,
  filter: NetfilterFilter,
  budget: Budget,
  visit: (hook: NetfilterHook) => boolean,
): NetfilterWalk {
  const layout = kernel.layout(netStruct);
  if (kernel.layout(hookEntries).num < 0 || layout.hooks_ipv4 < 0) return { retried: 0, missing: [], supported: false };
  const list = netNamespaces(kernel, budget);
  const missing = list.complete ? [] : ["the list of network namespaces could not be followed to its end"];
  let { retried } = list;
  for (const net of list.namespaces) {
    const netns = netInode(kernel, net);
    if (filter.namespaces !== undefined && (netns === undefined || !filter.namespaces.has(netns))) continue;
    const at = (family: string, hook: string, pointer: Halves, device?: Uint8Array): boolean => {
      if (filter.hooks?.has(hook) === false) return true;
      const found = readEntries(kernel, pointer, budget);
      if (found === undefined)
        missing.push(`hooks of ${family} ${hook} in network namespace ${netns} could not be read`);
      return (found ?? []).every((entry) => visit({ ...entry, netns, family, hook, device }));
    };
    for (const { family, member, hooks } of families) {
      if (layout[member] < 0 || filter.families?.has(family) === false) continue;
      const more = hooks.every((hook, number) => at(family, hook, plus(net, layout[member] + number * 8)));
      if (!more) return { retried, missing, supported: true };
    }
    if (filter.families?.has("netdev") === false) continue;
    const devices = walkDevices(kernel, net, budget);
    retried += devices.retried;
    if (!devices.complete) missing.push(`devices of network namespace ${netns} could not be followed to their end`);
    for (const { name, hook, pointer } of devices.hooks) {
      if (!at("netdev", hook, pointer, name)) return { retried, missing, supported: true };
    }
  }
  return { retried, missing, supported: true };
}

interface DeviceHooks {
  readonly hooks: readonly { readonly name: Uint8Array | undefined; readonly hook: string; readonly pointer: Halves }[];
  readonly retried: number;
  readonly complete: boolean;
}

function walkDevices(kernel: Kernel, net: Halves, budget: Budget): DeviceHooks {
  const { dev_base_head } = kernel.layout(netStruct);
  const device = kernel.layout(netDevice);
  const places = [
    ["ingress", device.ingress],
    ["egress", device.egress],
  ] as const;
  if (dev_base_head < 0 || places.every(([, member]) => member < 0)) return { hooks: [], retried: 0, complete: true };
  const list = walkList(kernel, plus(net, dev_base_head), device.dev_list, MAX_DEVICES, budget);
  const hooks: { name: Uint8Array | undefined; hook: string; pointer: Halves }[] = [];
  for (let i = 0; i < list.count; i++) {
    const at = { hi: list.hi[i]!, lo: list.lo[i]! };
    for (const [hook, member] of places) {
      if (member < 0) continue;
      const pointer = plus(at, member);
      const set = readPointer(kernel.space, pointer);
      if (set === undefined || isNull(set)) continue;
      hooks.push({ name: readCString(kernel.space, plus(at, device.name), IFNAMSIZ), hook, pointer });
    }
  }
  return { hooks, retried: list.retried, complete: list.complete };
}

type Entry = Pick<NetfilterHook, "function" | "priv" | "priority" | "registered">;

/** Undefined when they can't be read. Removed entries do nothing until the array is made anew, and are left out. */
function readEntries(kernel: Kernel, pointer: Halves, budget: Budget): Entry[] | undefined {
  const { space } = kernel;
  const layout = kernel.layout(hookEntries);
  const entry = kernel.layout(hookEntry);
  const ops = kernel.layout(hookOps);
  const at = readPointer(space, pointer);
  if (at === undefined) return undefined;
  if (isNull(at)) return [];
  const number = readU32(space, at, layout.num);
  if (number === undefined || (number & 0xffff) > MAX_HOOKS) return undefined;
  const count = number & 0xffff;
  const found: Entry[] = [];
  for (let i = 0; i < count; i++) {
    budget.spend();
    const own = plus(at, layout.hooks + i * entry.sizeof);
    const hook = readPointer(space, own, entry.hook);
    const priv = readPointer(space, own, entry.priv);
    if (hook === undefined || priv === undefined) return undefined;
    // Behind the functions are, in the same order, what was registered (nf_hook_entries_get_hook_ops).
    const original = readPointer(space, at, layout.hooks + count * entry.sizeof + i * 8);
    const registered = original && readPointer(space, original, ops.hook);
    const argument = original && readPointer(space, original, ops.priv);
    const priority = original && readU32(space, original, ops.priority);
    const same = registered && argument && sameAddress(registered, hook) && sameAddress(argument, priv);
    if (isDummy(kernel, hook, priority)) continue;
    found.push({ function: hook, priv, priority: priority === undefined ? undefined : priority | 0, registered: same });
  }
  return found;
}

/** What takes a removed entry's place (dummy_ops): by its function, as others may have that priority too (NF_IP_PRI_FIRST). */
function isDummy(kernel: Kernel, hook: Halves, priority: number | undefined): boolean {
  const place = kernel.optionalPlace(acceptAll);
  return priority !== undefined && (priority | 0) === INT_MIN && (place === undefined || sameAddress(place, hook));
}

const INT_MIN = -0x8000_0000;
