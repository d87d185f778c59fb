import type { Budget } from "../../budget.ts";
import type { Halves } from "../../bytes/address.ts";
import { struct, symbol } from "../../symbols/specs.ts";
import type { Kernel } from "../kernel.ts";
import { walkList } from "../list.ts";
import { isNull, plus, readCString, readPointer, readU32, sameAddress } from "../read.ts";
import { formatLinkAddress } from "./address.ts";
import { netNamespaces } from "./namespaces.ts";

/** include/net/net_namespace.h, include/linux/netdevice.h */
const net = struct("net", { dev_base_head: "dev_base_head" });
const netDevice = struct("net_device", {
  dev_list: "dev_list",
  name: "name",
  ifindex: "ifindex",
  flags: "flags",
  gflags: "gflags",
  state: "state",
  mtu: "mtu",
  type: "type",
  addr_len: "addr_len",
  dev_addr: "dev_addr",
  operstate: "operstate",
  promiscuity: "promiscuity",
  upper: "adj_list.upper",
  rtnl_link_ops: "rtnl_link_ops",
});
const netDeviceHardware = struct("net_device", { parent: "?dev.parent", ethtool_ops: "?ethtool_ops" });
/** include/linux/device.h, ethtool.h */
const device = struct("?device", { name: "kobj.name", parent: "parent", bus: "bus" });
const ethtoolOps = struct("?ethtool_ops", { speed: "?get_link_ksettings" });
const pciBus = symbol("?pci_bus_type");
const netdevAdjacent = struct("netdev_adjacent", { dev: "dev", master: "master", list: "list" });
const rtnlLinkOps = struct("rtnl_link_ops", { kind: "kind" });

const IFNAMSIZ = 16;
/** MAX_ADDR_LEN */
const MAX_LINK_ADDRESS = 32;
/** Interfaces of a namespace, and those stacked on one. */
const MAX_DEVICES = 1 << 20;
const MAX_UPPER = 4096;
const MAX_KIND = 32;
const MAX_DEVICE_NAME = 64;
/** Devices between an interface and the slot that it is in: one for virtio. */
const MAX_PARENTS = 8;

/** include/uapi/linux/if.h */
const IFF_RUNNING = 1 << 6;
const IFF_PROMISC = 1 << 8;
const IFF_ALLMULTI = 1 << 9;
const IFF_LOWER_UP = 1 << 16;
const IFF_DORMANT = 1 << 17;
const OF_STATE = IFF_PROMISC | IFF_ALLMULTI | IFF_RUNNING | IFF_LOWER_UP | IFF_DORMANT;
/** enum netdev_state_t (include/linux/netdevice.h) */
const STATE_START = 1;
const STATE_NOCARRIER = 4;
const STATE_DORMANT = 16;
/** RFC 2863, as /sys/class/net/NAME/operstate calls them. */
const OPERSTATES = ["unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up"];
const IF_OPER_UNKNOWN = 0;
const IF_OPER_DOWN = 2;
const IF_OPER_UP = 6;

export interface Device {
  /** The struct net_device. */
  readonly at: Halves;
  /** The struct net. */
  readonly net: Halves;
  readonly name: Uint8Array;
  readonly index: number;
}

export interface WalkedDevices {
  readonly retried: number;
  readonly complete: boolean;
}

/**
 * Visits the interfaces of all network namespaces.
 * @param visit returns false to stop
 */
export function walkDevices(kernel: Kernel, budget: Budget, visit: (device: Device) => boolean): WalkedDevices {
  const { dev_base_head } = kernel.layout(net);
  const { dev_list } = kernel.layout(netDevice);
  const { namespaces, ...state } = netNamespaces(kernel, budget);
  let { retried, complete } = state;
  for (const namespace of namespaces) {
    const list = walkList(kernel, plus(namespace, dev_base_head), dev_list, MAX_DEVICES, budget);
    retried += list.retried;
    complete &&= list.complete;
    for (let i = 0; i < list.count; i++) {
      const device = readDevice(kernel, { hi: list.hi[i]!, lo: list.lo[i]! }, namespace);
      if (device === undefined) complete = false;
      else if (!visit(device)) return { retried, complete };
    }
  }
  return { retried, complete };
}

function readDevice(kernel: Kernel, at: Halves, namespace: Halves): Device | undefined {
  const index = readU32(kernel.space, at, kernel.layout(netDevice).ifindex);
  const name = deviceName(kernel, at);
  return index === undefined || name === undefined ? undefined : { at, net: namespace, name, index };
}

/** Name of a struct net_device. */
export function deviceName(kernel: Kernel, at: Halves): Uint8Array | undefined {
  return readCString(kernel.space, plus(at, kernel.layout(netDevice).name), IFNAMSIZ);
}

/** Flags as SIOCGIFFLAGS and rtnetlink tell them (dev_get_flags). */
export function deviceFlags(kernel: Kernel, { at }: Device): number | undefined {
  const layout = kernel.layout(netDevice);
  const u32 = (offset: number) => readU32(kernel.space, at, offset);
  const [flags, asked, state, oper] = [u32(layout.flags), u32(layout.gflags), u32(layout.state), operstate(kernel, at)];
  if (flags === undefined || asked === undefined || state === undefined || oper === undefined) return undefined;
  let shown = (flags & ~OF_STATE) | (asked & (IFF_PROMISC | IFF_ALLMULTI));
  if ((state & STATE_START) !== 0) {
    if (oper === IF_OPER_UP || oper === IF_OPER_UNKNOWN) shown |= IFF_RUNNING;
    if ((state & STATE_NOCARRIER) === 0) shown |= IFF_LOWER_UP;
    if ((state & STATE_DORMANT) !== 0) shown |= IFF_DORMANT;
  }
  return shown >>> 0;
}

/** An unsigned char before 6.11 (d9a10c3c0d9b). */
function operstate(kernel: Kernel, at: Halves): number | undefined {
  const value = readU32(kernel.space, at, kernel.layout(netDevice).operstate);
  return value === undefined ? undefined : value & 0xff;
}

/** State of the link, as /sys/class/net/NAME/operstate tells it. */
export function linkState(kernel: Kernel, { at }: Device): string | undefined {
  const state = readU32(kernel.space, at, kernel.layout(netDevice).state);
  const oper = operstate(kernel, at);
  if (state === undefined || oper === undefined) return undefined;
  return OPERSTATES[(state & STATE_START) === 0 ? IF_OPER_DOWN : oper];
}

/** `02:00:00:00:00:01`; empty for an interface that has none. */
export function deviceAddress(kernel: Kernel, { at }: Device): string | undefined {
  const { space, memory } = kernel;
  const layout = kernel.layout(netDevice);
  const lengthAt = plus(at, layout.addr_len);
  const index = space.resolve(lengthAt.hi, lengthAt.lo);
  const length = index < 0 ? MAX_LINK_ADDRESS + 1 : memory.bytes[index]!;
  const address = readPointer(space, at, layout.dev_addr);
  if (length > MAX_LINK_ADDRESS || address === undefined) return undefined;
  if (length === 0) return "";
  const bytes = space.borrow(address.hi, address.lo, length);
  return bytes < 0 ? undefined : formatLinkAddress(memory.bytes, bytes, length);
}

/** ARPHRD_*, as /sys/class/net/NAME/type tells it. */
export function deviceType(kernel: Kernel, { at }: Device): number | undefined {
  const value = readU32(kernel.space, at, kernel.layout(netDevice).type);
  return value === undefined ? undefined : value & 0xffff;
}

export function deviceMtu(kernel: Kernel, { at }: Device): number | undefined {
  return readU32(kernel.space, at, kernel.layout(netDevice).mtu);
}

/** How many have asked for all packets. */
export function devicePromiscuity(kernel: Kernel, { at }: Device): number | undefined {
  return readU32(kernel.space, at, kernel.layout(netDevice).promiscuity);
}

/** Where on the PCI bus its hardware is, such as 0000:00:03.0; "none" for an interface that is in no slot. */
export function devicePciSlot(kernel: Kernel, { at }: Device): Uint8Array | "none" | "unsupported" | undefined {
  const { space } = kernel;
  const { parent } = kernel.layout(netDeviceHardware);
  const layout = kernel.layout(device);
  const bus = kernel.optionalPlace(pciBus);
  if (parent < 0 || layout.bus < 0) return "unsupported";
  let above = readPointer(space, at, parent);
  for (let i = 0; i < MAX_PARENTS && above !== undefined && !isNull(above); i++) {
    const of = readPointer(space, above, layout.bus);
    if (of === undefined) return undefined;
    if (bus !== undefined && sameAddress(of, bus)) {
      const name = readPointer(space, above, layout.name);
      return name && readCString(space, name, MAX_DEVICE_NAME);
    }
    above = readPointer(space, above, layout.parent);
  }
  return above && "none";
}

/** Whether its driver can say how fast the link is; undefined where that is not known. */
export function deviceTellsSpeed(kernel: Kernel, { at }: Device): boolean | undefined {
  const { space } = kernel;
  const { ethtool_ops } = kernel.layout(netDeviceHardware);
  const { speed } = kernel.layout(ethtoolOps);
  if (ethtool_ops < 0 || speed < 0) return undefined;
  const operations = readPointer(space, at, ethtool_ops);
  if (operations === undefined || isNull(operations)) return operations && false;
  const called = readPointer(space, operations, speed);
  return called && !isNull(called);
}

/** What kind of virtual interface it is, such as veth, bridge or tun; undefined for another. */
export function deviceKind(kernel: Kernel, { at }: Device): Uint8Array | undefined {
  const { space } = kernel;
  const operations = readPointer(space, at, kernel.layout(netDevice).rtnl_link_ops);
  if (operations === undefined || isNull(operations)) return undefined;
  const kind = readPointer(space, operations, kernel.layout(rtnlLinkOps).kind);
  return kind && readCString(space, kind, MAX_KIND);
}

/** The bridge, bond or the like that it is part of (netdev_master_upper_dev_get). */
export function deviceMaster(kernel: Kernel, { at }: Device, budget: Budget): Uint8Array | undefined {
  const { space } = kernel;
  const layout = kernel.layout(netdevAdjacent);
  const upper = walkList(kernel, plus(at, kernel.layout(netDevice).upper), layout.list, MAX_UPPER, budget);
  if (upper.count === 0) return undefined;
  // A master is the first of them.
  const first = { hi: upper.hi[0]!, lo: upper.lo[0]! };
  const flag = readU32(space, first, layout.master);
  const device = flag !== undefined && (flag & 0xff) !== 0 ? readPointer(space, first, layout.dev) : undefined;
  return device && deviceName(kernel, device);
}
