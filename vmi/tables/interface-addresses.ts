import { walkDevices } from "../linux/net/device.ts";
import { walkAddresses } from "../linux/net/interface-address.ts";
import { NetInodes } from "../linux/net/namespaces.ts";
import { CELL } from "./columns.ts";
import { pushText } from "./socket-cells.ts";
import { defineTable, integer, text } from "./table.ts";

/** include/uapi/linux/if_addr.h */
const IFA_F_PERMANENT = 0x80;

/** One row an address: `ip address`. */
export const interfaceAddresses = defineTable({
  name: "interface_addresses",
  description: "IPv4 and IPv6 addresses of the interfaces of all network namespaces",
  columns: {
    interface: text("Name of the interface", { key: true }),
    address: text("Address"),
    mask: text("Mask of its network"),
    broadcast: text("Broadcast address, where one is set"),
    point_to_point: text("Address of the other end, where there is one"),
    type: text("manual: it stays; auto: it was given for a time, by DHCP or a router's announcement"),
    label: text("Name of an IPv4 address"),
    flags: integer("IFA_F_*: 0x80 permanent, 0x40 tentative, 0x20 deprecated, 1 secondary (IPv4) or temporary (IPv6)"),
    ifindex: integer("Index of the interface"),
    net_namespace: integer("Network namespace that it is in: its inode number"),
  },
  cost: "walk",
  atOnce: true,
  reads: ["net_namespace_list", "net", "net_device", "in_device", "in_ifaddr", "inet6_dev", "inet6_ifaddr"],
  examples: [
    "SELECT net_namespace, interface, address, mask FROM interface_addresses WHERE interface <> 'lo'",
    "SELECT a.address, d.mac FROM interface_addresses a JOIN interface_details d USING (vm, net_namespace, ifindex)",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const namespaces = new NetInodes(kernel);
    const wanted = context.textKeys("interface");
    let whole = true;
    const { retried, complete } = walkDevices(kernel, budget, (device) => {
      if (wanted !== undefined && !wanted.has(Buffer.from(device.name).toString())) return true;
      let more = true;
      whole &&= walkAddresses(kernel, device, budget, (found) => {
        if (!more) return;
        out.interface?.pushBytes(device.name);
        out.address?.push(found.address);
        out.mask?.push(found.mask);
        pushText(out.broadcast, found.broadcast);
        pushText(out.point_to_point, found.pointToPoint);
        out.type?.push((found.flags & IFA_F_PERMANENT) === 0 ? "auto" : "manual");
        out.label?.pushOr(found.label, CELL.notApplicable);
        out.flags?.push(found.flags);
        out.ifindex?.push(device.index);
        out.net_namespace?.pushOr(namespaces.of(device.net), CELL.unreadable);
        more = context.row();
      });
      return more;
    });
    context.retried(retried);
    if (!complete || !whole) context.incomplete("interfaces or their addresses could not be followed to their end");
  },
});
