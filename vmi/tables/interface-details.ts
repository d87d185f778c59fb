import {
  deviceAddress,
  deviceFlags,
  deviceKind,
  deviceMaster,
  deviceMtu,
  devicePciSlot,
  devicePromiscuity,
  deviceTellsSpeed,
  deviceType,
  linkState,
  walkDevices,
} from "../linux/net/device.ts";
import { type DeviceStatistics, deviceStatistics } from "../linux/net/device-statistics.ts";
import { NetInodes } from "../linux/net/namespaces.ts";
import { CELL, type IntegerColumn } from "./columns.ts";
import { defineTable, integer, text } from "./table.ts";

/** Of columns, what they count. */
const COUNTS = {
  ipackets: "rxPackets",
  opackets: "txPackets",
  ibytes: "rxBytes",
  obytes: "txBytes",
  ierrors: "rxErrors",
  oerrors: "txErrors",
  idrops: "rxDropped",
  odrops: "txDropped",
  collisions: "collisions",
} as const satisfies Record<string, keyof DeviceStatistics>;

const ONLY =
  "; told of the loopback, dummy, tun, veth, bridge, tunnels and drivers without counters of their own: others keep theirs where only they know";

/** One row an interface: /sys/class/net, /proc/net/dev. */
export const interfaceDetails = defineTable({
  name: "interface_details",
  description: "Network interfaces of all network namespaces, with what they have counted",
  columns: {
    interface: text("Name", { key: true }),
    mac: text("Address of the link; none where the kind of link has none"),
    type: integer("Kind of link (ARPHRD_*): 1 Ethernet, 772 loopback, 65534 none"),
    mtu: integer("Largest packet, bytes"),
    metric: integer("Always 0: Linux keeps metrics with routes"),
    flags: integer("IFF_* as SIOCGIFFLAGS gives them: 1 up, 0x40 running, 0x100 promiscuous"),
    ipackets: integer(`Packets received${ONLY}`),
    opackets: integer("Packets sent; see ipackets"),
    ibytes: integer("Bytes received; see ipackets"),
    obytes: integer("Bytes sent; see ipackets"),
    ierrors: integer("Errors of receiving; see ipackets"),
    oerrors: integer("Errors of sending; see ipackets"),
    idrops: integer("Packets received and dropped; see ipackets"),
    odrops: integer("Packets to be sent and dropped; see ipackets"),
    collisions: integer("Collisions; see ipackets"),
    last_change: integer("Never told: Linux does not keep when an interface changed last"),
    link_speed: integer(
      "Never told: only the driver knows how fast a link is; not applicable where it does not know either",
    ),
    pci_slot: text("Where on the PCI bus its hardware is, such as 0000:00:03.0; not applicable for what is in no slot"),
    link_state: text("up, down, unknown, dormant, testing, lowerlayerdown or notpresent, as in /sys/class/net"),
    kind: text("Kind of virtual interface, such as veth, bridge or tun; none for another"),
    promiscuity: integer("How many have asked for all packets: more than 0 where traffic is captured"),
    ifindex: integer("Index"),
    master: text("Bridge, bond or the like that it is part of"),
    net_namespace: integer("Network namespace that it is in: its inode number"),
    device: text("Address of the struct net_device"),
  },
  cost: "walk",
  atOnce: true,
  reads: [
    "net_namespace_list",
    "net",
    "net_device",
    "net_device_ops",
    "net_device_stats",
    "net_device_core_stats (from 5.18: 625788b58445; before, net_device.rx_dropped)",
    "pcpu_lstats, pcpu_sw_netstats (which one: net_device.pcpu_stat_type from 6.7, 34d21de99cea; before, by ndo_get_stats64)",
    "netdev_adjacent",
    "rtnl_link_ops",
    "device, pci_bus_type, ethtool_ops",
  ],
  examples: [
    "SELECT net_namespace, interface, mac, link_state FROM interface_details WHERE interface <> 'lo'",
    "SELECT interface FROM interface_details WHERE promiscuity > 0",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const namespaces = new NetInodes(kernel);
    const wanted = context.textKeys("interface");
    const counts = Object.entries(COUNTS).map(([column, name]) => [out[column as keyof typeof COUNTS], name] as const);
    const counted = counts.some(([column]) => column !== undefined);
    const { retried, complete } = walkDevices(kernel, budget, (device) => {
      if (wanted !== undefined && !wanted.has(Buffer.from(device.name).toString())) return true;
      out.interface?.pushBytes(device.name);
      const mac = out.mac && deviceAddress(kernel, device);
      if (mac) out.mac?.push(mac);
      else out.mac?.absent(mac === undefined ? CELL.unreadable : CELL.notApplicable);
      out.type?.pushOr(deviceType(kernel, device), CELL.unreadable);
      out.mtu?.pushOr(deviceMtu(kernel, device), CELL.unreadable);
      out.metric?.push(0);
      out.flags?.pushOr(out.flags && deviceFlags(kernel, device), CELL.unreadable);
      const statistics = counted ? deviceStatistics(kernel, device.at, budget) : "unsupported";
      for (const [column, name] of counts) pushCount(column, statistics, name);
      out.last_change?.absent(CELL.unsupported);
      if (out.link_speed !== undefined) {
        const silent = deviceTellsSpeed(kernel, device) === false;
        out.link_speed.absent(silent ? CELL.notApplicable : CELL.unsupported);
      }
      const slot = out.pci_slot && devicePciSlot(kernel, device);
      if (slot === "none") out.pci_slot?.absent(CELL.notApplicable);
      else if (slot === "unsupported") out.pci_slot?.absent(CELL.unsupported);
      else out.pci_slot?.pushOr(slot, CELL.unreadable);
      const state = out.link_state && linkState(kernel, device);
      if (state === undefined) out.link_state?.absent(CELL.unreadable);
      else out.link_state?.push(state);
      out.kind?.pushOr(out.kind && deviceKind(kernel, device), CELL.notApplicable);
      out.promiscuity?.pushOr(devicePromiscuity(kernel, device), CELL.unreadable);
      out.ifindex?.push(device.index);
      out.master?.pushOr(out.master && deviceMaster(kernel, device, budget), CELL.notApplicable);
      out.net_namespace?.pushOr(namespaces.of(device.net), CELL.unreadable);
      out.device?.pushAddress(device.at.hi, device.at.lo);
      return context.row();
    });
    context.retried(retried);
    if (!complete) context.incomplete("the interfaces of a network namespace could not be followed to their end");
  },
});

function pushCount(
  column: IntegerColumn | undefined,
  statistics: ReturnType<typeof deviceStatistics>,
  name: keyof DeviceStatistics,
): void {
  if (typeof statistics === "string") column?.absent(CELL[statistics]);
  else column?.pushOr(statistics[name], CELL.unreadable);
}
