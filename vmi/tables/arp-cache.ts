import { deviceName } from "../linux/net/device.ts";
import { NetInodes } from "../linux/net/namespaces.ts";
import { walkNeighbours } from "../linux/net/neighbour.ts";
import { AF } from "../linux/net/socket.ts";
import { CELL } from "./columns.ts";
import { isWanted } from "./keys.ts";
import { defineTable, integer, text } from "./table.ts";

/** One row a neighbour: `ip neigh show nud all`. */
export const arpCache = defineTable({
  name: "arp_cache",
  description:
    "Addresses of links that are known of neighbours, by ARP (IPv4) and neighbour discovery (IPv6), in all network namespaces",
  columns: {
    address: text("IPv4 or IPv6 address of the neighbour", { key: true }),
    mac: text("Address of its link; zeros while it is not known"),
    interface: text("Name of the interface that it is reached by", { key: true }),
    permanent: integer("1 when it was set to stay"),
    state: text(
      "none, incomplete, reachable, stale, delay, probe, failed, permanent or noarp; /proc/net/arp leaves out noarp, which needs no asking",
    ),
    ifindex: integer("Index of the interface"),
    net_namespace: integer("Network namespace that the interface is in: its inode number"),
    neighbour: text("Address of the struct neighbour"),
  },
  cost: "walk",
  atOnce: true,
  reads: [
    "arp_tbl, nd_tbl",
    "neigh_table",
    "neigh_hash_table: hash_heads from 6.13 (f7f52738637f), before hash_buckets",
    "neighbour",
    "net_device",
    "net",
  ],
  examples: [
    "SELECT interface, address, mac FROM arp_cache WHERE permanent = 1",
    "SELECT mac, count(*) FROM arp_cache WHERE state IN ('reachable', 'stale') GROUP BY mac HAVING count(*) > 1",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const namespaces = new NetInodes(kernel);
    const addresses = context.textKeys("address");
    const interfaces = context.textKeys("interface");
    const families = addresses && new Set([...addresses].map((text) => (text.includes(":") ? AF.inet6 : AF.inet)));
    const complete = walkNeighbours(kernel, families, budget, (found) => {
      if (!isWanted(addresses, found.address)) return true;
      const name = out.interface && deviceName(kernel, found.device);
      if (!isWanted(interfaces, name)) return true;
      out.address?.push(found.address);
      out.mac?.push(found.linkAddress);
      out.interface?.pushOr(name, CELL.unreadable);
      out.permanent?.push(found.state === "permanent" ? 1 : 0);
      out.state?.push(found.state);
      out.ifindex?.push(found.interfaceIndex);
      out.net_namespace?.pushOr(namespaces.of(found.net), CELL.unreadable);
      out.neighbour?.pushAddress(found.at.hi, found.at.lo);
      return context.row();
    });
    if (!complete) context.incomplete("a table of neighbours could not be followed to its end");
  },
});
