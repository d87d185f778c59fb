import type { Budget } from "../../budget.ts";
import { struct } from "../../symbols/specs.ts";
import { followChain } from "../chain.ts";
import type { Kernel } from "../kernel.ts";
import { walkList } from "../list.ts";
import { isNull, plus, readPointer, readU32 } from "../read.ts";
import { formatIpv4, formatIpv6 } from "./address.ts";
import type { Device } from "./device.ts";

/** include/linux/netdevice.h, inetdevice.h; include/net/if_inet6.h */
const netDevice = struct("net_device", { ip_ptr: "ip_ptr", ip6_ptr: "?ip6_ptr" });
const inDevice = struct("in_device", { ifa_list: "ifa_list" });
const inIfaddr = struct("in_ifaddr", {
  ifa_next: "ifa_next",
  ifa_local: "ifa_local",
  ifa_address: "ifa_address",
  ifa_mask: "ifa_mask",
  ifa_broadcast: "ifa_broadcast",
  ifa_label: "ifa_label",
  ifa_flags: "ifa_flags",
});
const inet6Dev = struct("?inet6_dev", { addr_list: "addr_list" });
const inet6Ifaddr = struct("?inet6_ifaddr", {
  if_list: "if_list",
  addr: "addr",
  peer_addr: "peer_addr",
  prefix_len: "prefix_len",
  flags: "flags",
});

const IFNAMSIZ = 16;
const IPV6_BYTES = 16;
/** Addresses of one interface. */
const MAX_ADDRESSES = 1 << 16;

export interface InterfaceAddress {
  readonly address: string;
  readonly mask: string;
  readonly broadcast: string | undefined;
  /** The address of the other end. */
  readonly pointToPoint: string | undefined;
  /** Of IPv4: a name for it, by default the interface's. */
  readonly label: Uint8Array | undefined;
  /** IFA_F_* (include/uapi/linux/if_addr.h) */
  readonly flags: number;
}

/** The addresses of an interface, IPv4 before IPv6. Returns false when they could not be followed to their end. */
export function walkAddresses(
  kernel: Kernel,
  device: Device,
  budget: Budget,
  visit: (address: InterfaceAddress) => void,
): boolean {
  const four = walkIpv4(kernel, device, budget, visit);
  const six = walkIpv6(kernel, device, budget, visit);
  return four && six;
}

function walkIpv4(kernel: Kernel, device: Device, budget: Budget, visit: (address: InterfaceAddress) => void): boolean {
  const { space, memory } = kernel;
  const layout = kernel.layout(inIfaddr);
  const of = readPointer(space, device.at, kernel.layout(netDevice).ip_ptr);
  if (of === undefined) return false;
  const first = isNull(of) ? of : readPointer(space, of, kernel.layout(inDevice).ifa_list);
  return followChain(kernel, first, layout.ifa_next, MAX_ADDRESSES, budget, (at) => {
    const index = space.borrow(at.hi, at.lo, layout.extent + IFNAMSIZ);
    if (index < 0) return false;
    const { bytes, view } = memory;
    const label = bytes.subarray(index + layout.ifa_label, index + layout.ifa_label + IFNAMSIZ);
    const zero = label.indexOf(0);
    const address = formatIpv4(bytes, index + layout.ifa_local);
    const other = formatIpv4(bytes, index + layout.ifa_address);
    const broadcast = view.getUint32(index + layout.ifa_broadcast, true);
    visit({
      address,
      mask: formatIpv4(bytes, index + layout.ifa_mask),
      broadcast: broadcast === 0 ? undefined : formatIpv4(bytes, index + layout.ifa_broadcast),
      pointToPoint: other === address ? undefined : other,
      label: label.slice(0, zero < 0 ? IFNAMSIZ : zero),
      flags: view.getUint32(index + layout.ifa_flags, true),
    });
    return true;
  });
}

function walkIpv6(kernel: Kernel, device: Device, budget: Budget, visit: (address: InterfaceAddress) => void): boolean {
  const { space, memory } = kernel;
  const { ip6_ptr } = kernel.layout(netDevice);
  const { addr_list } = kernel.layout(inet6Dev);
  const layout = kernel.layout(inet6Ifaddr);
  if (ip6_ptr < 0 || addr_list < 0 || layout.if_list < 0) return true;
  const of = readPointer(space, device.at, ip6_ptr);
  if (of === undefined) return false;
  if (isNull(of)) return true;
  const list = walkList(kernel, plus(of, addr_list), layout.if_list, MAX_ADDRESSES, budget);
  let { complete } = list;
  for (let i = 0; i < list.count; i++) {
    const at = { hi: list.hi[i]!, lo: list.lo[i]! };
    const own = plus(at, layout.addr);
    const peer = plus(at, layout.peer_addr);
    const prefix = readU32(space, at, layout.prefix_len);
    const flags = readU32(space, at, layout.flags);
    const index = space.borrow(own.hi, own.lo, IPV6_BYTES);
    const address = index < 0 ? undefined : formatIpv6(memory.bytes, index);
    const peerIndex = space.borrow(peer.hi, peer.lo, IPV6_BYTES);
    const other = peerIndex < 0 ? undefined : formatIpv6(memory.bytes, peerIndex);
    if (address === undefined || other === undefined || prefix === undefined || prefix > 128 || flags === undefined) {
      complete = false;
      continue;
    }
    const pointToPoint = other === "::" ? undefined : other;
    visit({ address, mask: ipv6Mask(prefix), broadcast: undefined, pointToPoint, label: undefined, flags });
  }
  return complete;
}

/** The mask of a prefix: `ffff:ffff::` of 32. */
function ipv6Mask(prefix: number): string {
  const bytes = new Uint8Array(IPV6_BYTES);
  for (let bit = 0; bit < prefix; bit++) bytes[bit >> 3]! |= 0x80 >> (bit & 7);
  return formatIpv6(bytes, 0);
}
