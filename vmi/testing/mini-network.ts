import { type MiniKernel, Thing } from "./mini-kernel.ts";

/** The network of a made-up kernel: one namespace, an interface, sockets of each family, routes and neighbours. */
export interface MiniNetwork {
  readonly net: Thing;
  readonly device: Thing;
  /** A TCP socket that listens, one that is connected, one of a datagram, a packet, and one of netlink. */
  readonly sockets: Readonly<Record<"listening" | "connected" | "udp" | "unix" | "packet" | "netlink", Thing>>;
  readonly neighbour: Thing;
  readonly route: Thing;
  readonly route6: Thing;
}

const TCP_ESTABLISHED = 1;
const TCP_CLOSE = 7;
const TCP_LISTEN = 10;
const BUCKETS = 4;
const LOCAL = 0x0a4d_0001;
const REMOTE = 0x0a4d_0002;
const LOCAL6 = Buffer.from("fd770000000000000000000000000001", "hex");

/** @param net the struct net that processes are in */
export function addNetwork(kernel: MiniKernel, net: bigint, tasks: readonly Thing[]): MiniNetwork {
  const namespace = new Thing(kernel, kernel.types.of.net!, net);
  kernel.writeInteger(kernel.image("init_net", 8), net, 8);
  const list = kernel.image("net_namespace_list", 16);
  kernel.emptyList(list);
  kernel.listAdd(list, namespace.at("list"));
  const device = addDevice(kernel, namespace);
  const sockets = addSockets(kernel, namespace);
  const operations = kernel.image("socket_file_ops", 64);
  const open = [sockets.connected, sockets.unix].map((socket) => {
    const of = new Thing(kernel, kernel.types.of.sock!, socket.va);
    return kernel.make("file").setAll({ f_op: operations, private_data: kernel.readPointer(of.at("sk_socket")) });
  });
  for (const task of tasks) openFiles(kernel, task, open);
  return {
    net: namespace,
    device,
    sockets,
    neighbour: addNeighbour(kernel, device),
    ...addRoutes(kernel, namespace, device),
  };
}

/** Big-endian, as a number that is written little-endian. */
function network(value: number, bytes: 2 | 4): number {
  const buffer = Buffer.alloc(4);
  if (bytes === 2) buffer.writeUInt16BE(value);
  else buffer.writeUInt32BE(value);
  return buffer.readUInt32LE();
}

/** An hlist of nodes behind a head. */
function chain(kernel: MiniKernel, head: bigint, nodes: readonly bigint[], end = 0n): void {
  let at = head;
  for (const node of nodes) {
    kernel.writeInteger(at, node, 8);
    kernel.writeInteger(node + 8n, at, 8);
    at = node;
  }
  kernel.writeInteger(at, end, 8);
}

/** Heads of chains that end with an odd number. */
function nullsHeads(kernel: MiniKernel, at: bigint, count: number, stride: number): void {
  for (let i = 0; i < count; i++) kernel.writeInteger(at + BigInt(i * stride), i * 2 + 1, 8);
}

function addDevice(kernel: MiniKernel, net: Thing): Thing {
  const mac = kernel.allocate(8);
  kernel.write(mac, Buffer.from("0277000000a1", "hex"));
  const device = kernel.make("net_device").setAll({
    name: Buffer.from("mini0\0"),
    state: 3,
    flags: 0x1043,
    mtu: 1500,
    ifindex: 2,
    promiscuity: 1,
    operstate: 6,
    type: 1,
    addr_len: 6,
    "nd_net.net": net.va,
    netdev_ops: kernel.make("net_device_ops").va,
    rtnl_link_ops: kernel.make("rtnl_link_ops").set("kind", kernel.string("mini")).va,
    dev_addr: mac,
    "dev.parent": addHardware(kernel),
    ethtool_ops: kernel.make("ethtool_ops").set("get_link_ksettings", 0x1000).va,
  });
  device.setAll({ "stats.rx_packets": 7, "stats.tx_bytes": 900, "stats.rx_dropped": 1 });
  kernel.emptyList(net.at("dev_base_head"));
  kernel.listAdd(net.at("dev_base_head"), device.at("dev_list"));
  kernel.emptyList(device.at("adj_list.upper"));
  const address = kernel.make("in_ifaddr").setAll({
    ifa_local: network(LOCAL, 4),
    ifa_address: network(LOCAL, 4),
    ifa_mask: network(0xffff_ff00, 4),
    ifa_broadcast: network(0x0a4d_00ff, 4),
    ifa_flags: 0x80,
    ifa_label: Buffer.from("mini0\0"),
  });
  device.set("ip_ptr", kernel.make("in_device").setAll({ dev: device.va, ifa_list: address.va }).va);
  const six = kernel.make("inet6_dev").set("dev", device.va);
  kernel.emptyList(six.at("addr_list"));
  const address6 = kernel.make("inet6_ifaddr").setAll({ addr: LOCAL6, prefix_len: 64, flags: 0 });
  kernel.listAdd(six.at("addr_list"), address6.at("if_list"));
  device.set("ip6_ptr", six.va);
  return device;
}

/** A device of virtio in a slot of the PCI bus; returns its address. */
function addHardware(kernel: MiniKernel): bigint {
  const bus = kernel.image("pci_bus_type", 64);
  const slot = kernel.make("device").setAll({ bus, "kobj.name": kernel.string("0000:00:03.0") });
  const virtio = { bus: bus + 8n, parent: slot.va, "kobj.name": kernel.string("virtio0") };
  return kernel.make("device").setAll(virtio).va;
}

function addSockets(kernel: MiniKernel, net: Thing): MiniNetwork["sockets"] {
  const make = (type: string, values: Readonly<Record<string, bigint | number | Uint8Array>>) => {
    const made = kernel.make(type);
    const own = new Thing(kernel, kernel.types.of.sock!, made.va);
    const socket = kernel
      .make("socket_alloc")
      .setAll({ "socket.sk": made.va, "vfs_inode.i_ino": 700 + (values.ino as number) });
    own.setAll({ "__sk_common.skc_net.net": net.va, sk_socket: socket.va, sk_wmem_alloc: 1, sk_uid: 1000 });
    kernel.emptyList(own.at("sk_receive_queue"));
    for (const [name, value] of Object.entries(values)) if (name !== "ino") own.set(name, value);
    return made;
  };
  const ends = {
    "__sk_common.skc_rcv_saddr": network(LOCAL, 4),
    "__sk_common.skc_num": 7001,
    "__sk_common.skc_family": 2,
    sk_type: 1,
    sk_protocol: 6,
  };
  const listening = make("tcp_sock", { ...ends, ino: 1, "__sk_common.skc_state": TCP_LISTEN, sk_ack_backlog: 2 });
  const connected = make("tcp_sock", {
    ...ends,
    ino: 2,
    "__sk_common.skc_state": TCP_ESTABLISHED,
    "__sk_common.skc_daddr": network(REMOTE, 4),
    "__sk_common.skc_dport": network(40000, 2),
  }).setAll({ write_seq: 5, snd_una: 0xffff_fffe, rcv_nxt: 120, copied_seq: 20 });
  const udp = make("udp_sock", {
    ino: 3,
    "__sk_common.skc_family": 10,
    "__sk_common.skc_state": TCP_CLOSE,
    "__sk_common.skc_num": 5353,
    "__sk_common.skc_v6_rcv_saddr": LOCAL6,
    sk_type: 2,
    sk_protocol: 17,
    "sk_backlog.rmem_alloc": 900,
  }).set("forward_deficit", 100);
  const unix = make("unix_sock", { ino: 4, "__sk_common.skc_family": 1, "__sk_common.skc_state": 1, sk_type: 1 });
  const name = new Thing(kernel, kernel.types.of.unix_address!, kernel.allocate(32)).set("len", 2 + 5);
  kernel.write(name.at("name"), Buffer.from("\x01\0\0mini", "latin1"));
  unix.set("addr", name.va);
  const skb = kernel.make("sk_buff").set("len", 33);
  kernel.listAdd(unix.at("sk.sk_receive_queue"), skb.va);
  unix.set("sk.sk_receive_queue.qlen", 1);
  const packet = make("packet_sock", {
    ino: 5,
    "__sk_common.skc_family": 17,
    "__sk_common.skc_state": TCP_CLOSE,
    sk_type: 3,
  });
  packet.setAll({ ifindex: 2, num: network(3, 2) });
  const netlink = make("netlink_sock", { ino: 6, "__sk_common.skc_family": 16, sk_type: 3 }).set("portid", 4711);
  hang(kernel, net, { listening, connected, udp, unix, packet, netlink });
  return { listening, connected, udp, unix, packet, netlink };
}

/** Puts the sockets into the tables of their protocols. */
function hang(kernel: MiniKernel, net: Thing, sockets: MiniNetwork["sockets"]): void {
  const node = (thing: Thing) => new Thing(kernel, kernel.types.of.sock!, thing.va).at("__sk_common.skc_node");
  const hashinfo = kernel.global("tcp_hashinfo", "inet_hashinfo");
  const ehash = kernel.allocate(BUCKETS * 8);
  nullsHeads(kernel, ehash, BUCKETS, 8);
  chain(kernel, ehash + 16n, [node(sockets.connected)], 5n);
  hashinfo.setAll({ ehash, ehash_mask: BUCKETS - 1 });
  const bucket = kernel.types.of.inet_listen_hashbucket!;
  const old = kernel.options.flavour === "6.1";
  const heads = old ? hashinfo.at("listening_hash") : kernel.allocate(BUCKETS * bucket.size);
  const first = heads + BigInt(bucket.members.get("nulls_head")!.offset);
  nullsHeads(kernel, first, old ? 32 : BUCKETS, bucket.size);
  chain(kernel, first + BigInt(bucket.size), [node(sockets.listening)], 3n);
  if (!old) hashinfo.setAll({ lhash2: heads, lhash2_mask: BUCKETS - 1 });
  net.set("ipv4.tcp_death_row.hashinfo", hashinfo.va);
  const slots = kernel.allocate(BUCKETS * kernel.types.of.udp_hslot!.size);
  chain(kernel, slots, [node(sockets.udp)]);
  const udp = kernel.global("udp_table", "udp_table").setAll({ hash: slots, mask: BUCKETS - 1 });
  if (!old) net.set("ipv4.udp_table", udp.va);
  const buckets = kernel.allocate(512 * 8);
  chain(kernel, buckets + 8n, [node(sockets.unix)]);
  net.set("unx.table.buckets", buckets);
  chain(kernel, net.at("packet.sklist"), [node(sockets.packet)]);
  const tables = kernel.types.of.netlink_table!;
  const table = kernel.allocate(32 * tables.size);
  kernel.writeInteger(kernel.image("nl_table", 8), table, 8);
  for (let protocol = 0; protocol < 32; protocol++) {
    const chains = kernel.allocate(24 + 2 * 8);
    const own = new Thing(kernel, kernel.types.of.bucket_table!, chains).set("size", 2);
    new Thing(kernel, tables, table + BigInt(protocol * tables.size)).set("hash.tbl", own.va);
    if (protocol !== 0) continue;
    kernel.writeInteger(own.at("buckets"), sockets.netlink.at("node") | 1n, 8);
    sockets.netlink.set("node.next", own.at("buckets") | 1n);
  }
  kernel.global("raw_v4_hashinfo", "raw_hashinfo");
}

/** Descriptors 0 and up of a task. */
/** Gives a task descriptors of files. */
function openFiles(kernel: MiniKernel, task: Thing, files: readonly Thing[]): void {
  const array = kernel.allocate(64 * 8);
  files.forEach((file, fd) => {
    kernel.writeInteger(array + BigInt(fd * 8), file.va, 8);
  });
  const bits = kernel.allocate(8);
  kernel.writeInteger(bits, (1 << files.length) - 1, 8);
  const table = kernel.make("fdtable").setAll({ max_fds: 64, fd: array, open_fds: bits });
  task.set("files", kernel.make("files_struct").set("fdt", table.va).va);
}

function addNeighbour(kernel: MiniKernel, device: Thing): Thing {
  const table = kernel.global("arp_tbl", "neigh_table").setAll({ family: 2, key_len: 4 });
  const buckets = kernel.allocate(2 * 8);
  const hash = kernel.make("neigh_hash_table").set("hash_shift", 1);
  const old = kernel.options.flavour === "6.1";
  hash.set(old ? "hash_buckets" : "hash_heads", buckets);
  table.set("nht", hash.va);
  const neighbour = new Thing(kernel, kernel.types.of.neighbour!, kernel.allocate(kernel.types.of.neighbour!.size + 8));
  neighbour.setAll({ tbl: table.va, nud_state: 0x80, ha: Buffer.from("020000000099", "hex"), dev: device.va });
  kernel.writeInteger(neighbour.at("primary_key"), network(REMOTE, 4), 4);
  kernel.writeInteger(buckets, neighbour.va, 8);
  return neighbour;
}

function addRoutes(kernel: MiniKernel, net: Thing, device: Thing): Pick<MiniNetwork, "route" | "route6"> {
  const info = new Thing(kernel, kernel.types.of.fib_info!, kernel.allocate(256));
  const hop = new Thing(kernel, kernel.types.of.fib_nh!, info.at("fib_nh"));
  const metrics = kernel.make("dst_metrics");
  kernel.writeInteger(metrics.at("metrics") + 4n, 1400, 4);
  kernel.writeInteger(metrics.at("metrics") + 36n, 7, 4);
  info.setAll({ fib_priority: 100, fib_protocol: 4, fib_nhs: 1, fib_metrics: metrics.va });
  hop.setAll({ "nh_common.nhc_dev": device.va, "nh_common.nhc_gw_family": 2 });
  kernel.writeInteger(hop.at("nh_common.nhc_gw"), network(REMOTE, 4), 4);
  const route = kernel.make("fib_alias").setAll({ fa_info: info.va, fa_type: 1, fa_slen: 8, tb_id: 254 });
  const leaf = kernel.make("key_vector").setAll({ key: 0x0a4d_0000 });
  chain(kernel, leaf.at("leaf"), [route.at("fa_list")]);
  const node = new Thing(kernel, kernel.types.of.key_vector!, kernel.allocate(64)).setAll({ pos: 16, bits: 1 });
  kernel.writeInteger(node.at("tnode") + 8n, leaf.va, 8);
  const trie = kernel.allocate(64);
  kernel.writeInteger(new Thing(kernel, kernel.types.of.key_vector!, trie).at("tnode"), node.va, 8);
  const main = kernel.make("fib_table").setAll({ tb_id: 254, tb_data: trie });
  const tables = kernel.allocate(256 * 8);
  chain(kernel, tables + 254n * 8n, [main.at("tb_hlist")]);
  net.setAll({ "ipv4.fib_table_hash": tables, "ipv4.fib_main": main.va });

  const route6 = kernel.make("fib6_info").setAll({ fib6_metric: 256, fib6_protocol: 2, fib6_type: 1 });
  route6.setAll({ "fib6_dst.addr": Buffer.concat([LOCAL6.subarray(0, 8), Buffer.alloc(8)]), "fib6_dst.plen": 64 });
  kernel.writeInteger(route6.at("fib6_nh"), device.va, 8);
  const table = kernel.make("fib6_table").setAll({ tb6_id: 254, "tb6_root.fn_flags": 2 });
  const below = kernel.make("fib6_node").setAll({ parent: table.at("tb6_root"), leaf: route6.va, fn_flags: 4 });
  table.set("tb6_root.left", below.va);
  const tables6 = kernel.allocate(256 * 8);
  chain(kernel, tables6 + 8n, [table.at("tb6_hlist")]);
  net.setAll({ "ipv6.fib_table_hash": tables6, "ipv6.fib6_null_entry": kernel.make("fib6_info").va });
  return { route, route6 };
}
