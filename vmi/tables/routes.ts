import { deviceName } from "../linux/net/device.ts";
import { walkIpv4Routes } from "../linux/net/fib-trie.ts";
import { walkIpv6Routes } from "../linux/net/fib6.ts";
import { NetInodes, netNamespaces } from "../linux/net/namespaces.ts";
import type { Route } from "../linux/net/route.ts";
import { AF } from "../linux/net/socket.ts";
import { CELL } from "./columns.ts";
import { pushText } from "./socket-cells.ts";
import { defineTable, integer, text } from "./table.ts";

/** RTN_* (include/uapi/linux/rtnetlink.h); osquery calls unicast "gateway". */
const TYPES = [
  "unspecified",
  "gateway",
  "local",
  "broadcast",
  "anycast",
  "multicast",
  "blackhole",
  "unreachable",
  "prohibit",
  "throw",
  "nat",
  "xresolve",
];

/** One row a way that packets may go: `ip route show table all`. */
export const routes = defineTable({
  name: "routes",
  description: "Routes of IPv4 and IPv6 in all network namespaces and all routing tables, one row for each next hop",
  columns: {
    destination: text("Network or host that it leads to: 0.0.0.0 or :: of length 0 by default"),
    netmask: integer("Length of the destination's prefix, bits"),
    gateway: text("Next hop; none for what is reached without one"),
    source: text("Address to send from, where one is preferred"),
    flags: integer("RTNH_F_* of the hop: 1 dead, 4 on link, 16 link down"),
    interface: text("Name of the interface; none where packets are dropped (IPv4)"),
    mtu: integer("MTU that was set for it, bytes; 0: the interface's"),
    metric: integer("Priority: less is better"),
    type: text(
      "gateway (unicast, with or without one), local, broadcast, anycast, multicast, blackhole, unreachable, …",
    ),
    hopcount: integer("Hop limit that was set for it; 0: the system's"),
    table: integer("Number of the routing table: 254 main, 255 local", { key: true }),
    family: integer("2 IPv4, 10 IPv6", { key: true }),
    protocol: integer(
      "RTPROT_*, who made it: 2 the kernel, 3 at boot, 4 the administrator, 9 a router's announcement, 16 DHCP",
    ),
    net_namespace: integer("Network namespace: its inode number"),
  },
  cost: "walk",
  atOnce: true,
  reads: [
    "net_namespace_list",
    "net",
    "fib_table, trie, key_vector, fib_alias, fib_info, fib_nh",
    "fib6_table, fib6_node, fib6_info, fib6_nh",
    "fib_nh_common (from 5.2: 979e276ebebd)",
    "nexthop, nh_info, nh_group (from 5.3: ab84be7e54fc)",
    "dst_metrics",
    "net_device",
  ],
  examples: [
    'SELECT net_namespace, destination, netmask, gateway, interface FROM routes WHERE "table" = 254',
    "SELECT destination, netmask FROM routes WHERE type = 'blackhole'",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const inodes = new NetInodes(kernel);
    const families = context.keys("family");
    const tables = context.keys("table");
    let more = true;
    const write = (route: Route): boolean => {
      if (tables !== undefined && !tables.has(route.table)) return true;
      for (const { gateway, device, flags } of route.hops) {
        out.destination?.push(route.destination);
        out.netmask?.push(route.prefix);
        pushText(out.gateway, gateway);
        pushText(out.source, route.source);
        out.flags?.push(flags);
        if (device === undefined) out.interface?.absent(CELL.notApplicable);
        else out.interface?.pushOr(out.interface && deviceName(kernel, device), CELL.unreadable);
        out.mtu?.push(route.mtu);
        out.metric?.push(route.metric);
        out.type?.push(TYPES[route.type] ?? "other");
        out.hopcount?.push(route.hopLimit);
        out.table?.push(route.table);
        out.family?.push(route.family);
        out.protocol?.push(route.protocol);
        out.net_namespace?.pushOr(inodes.of(route.net), CELL.unreadable);
        more &&= context.row();
        if (!more) return false;
      }
      return true;
    };
    const { namespaces, complete, retried } = netNamespaces(kernel, budget);
    context.retried(retried);
    if (!complete) context.incomplete("the list of network namespaces could not be followed to its end");
    for (const namespace of namespaces) {
      let whole = true;
      if (more && families?.has(AF.inet) !== false) whole = walkIpv4Routes(kernel, namespace, budget, write);
      if (more && families?.has(AF.inet6) !== false) whole = walkIpv6Routes(kernel, namespace, budget, write) && whole;
      if (!whole) context.incomplete("the routes of a network namespace could not be followed to their end");
    }
  },
});
