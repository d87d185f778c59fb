import type { BtfWriter, TypeRef } from "./btf-writer.ts";

export type Member = readonly [name: string, type: TypeRef];

export interface Builder {
  readonly btf: BtfWriter;
  readonly of: Readonly<Record<string, TypeRef>>;
  struct(name: string, ...members: readonly Member[]): TypeRef;
  union(name: string, ...members: readonly Member[]): TypeRef;
}

/** What structures are made of. */
export interface Primitives {
  /** A kernel as 6.1 is. */
  readonly old: boolean;
  readonly ptr: TypeRef;
  readonly u8: TypeRef;
  readonly u16: TypeRef;
  readonly u32: TypeRef;
  readonly u64: TypeRef;
  readonly list: TypeRef;
  readonly hlist: TypeRef;
  readonly gap: (bytes: number) => Member;
}

/** Structures of a made-up kernel's network: linux/net/*.ts. */
export function networkTypes(b: Builder, { old, ptr, u8, u16, u32, u64, list, hlist, gap }: Primitives): void {
  const array = b.btf.array.bind(b.btf);
  const pointers = (...names: string[]) => names.map((name): Member => [name, ptr]);
  const words = (...names: string[]) => names.map((name): Member => [name, u32]);
  const head = b.struct("hlist_head", ["first", ptr]);
  const address6 = array(u8, 16);
  const netRef = b.struct("", ["net", ptr]);

  const row = b.struct("inet_timewait_death_row", ["tw_refcount", u32], ["hashinfo", ptr]);
  const ipv4 = b.struct(
    "netns_ipv4",
    ["tcp_death_row", row],
    ...pointers(...(old ? [] : ["udp_table"]), "fib_main", "fib_table_hash"),
  );
  const ipv6 = b.struct("netns_ipv6", ...pointers("fib6_null_entry", "fib_table_hash", "fib6_local_tbl"));
  const unix = b.struct("netns_unix", ["table", b.struct("unix_table", ...pointers("locks", "buckets"))]);
  const packet = b.struct("netns_packet", gap(32), ["sklist", head]);
  b.struct(
    "net",
    gap(24),
    ["list", list],
    ["ns", b.of.ns_common!],
    ["dev_base_head", list],
    [
      "nf",
      b.struct("netns_nf", ["hooks_ipv4", array(ptr, 5)], ["hooks_ipv6", array(ptr, 5)], ["hooks_arp", array(ptr, 3)]),
    ],
    ["packet", packet],
    ["unx", unix],
    ["ipv4", ipv4],
    ["ipv6", ipv6],
  );

  const common = b.struct(
    "sock_common",
    ...words("skc_daddr", "skc_rcv_saddr"),
    gap(4),
    ["skc_dport", u16],
    ["skc_num", u16],
    ["skc_family", u16],
    ["skc_state", u8],
    gap(1),
    ["skc_bound_dev_if", u32],
    ["skc_net", netRef],
    ["skc_v6_daddr", address6],
    ["skc_v6_rcv_saddr", address6],
    ["skc_listener", ptr],
    ["skc_node", hlist],
  );
  const queue = b.struct("sk_buff_head", ...pointers("next", "prev"), ["qlen", u32]);
  const sock = b.struct(
    "sock",
    ["__sk_common", common],
    ["sk_backlog", b.struct("", ["rmem_alloc", u32], ["len", u32])],
    ["sk_receive_queue", queue],
    ...words("sk_wmem_alloc", "sk_ack_backlog", "sk_max_ack_backlog", "sk_uid"),
    ["sk_type", u16],
    ["sk_protocol", u16],
    ["sk_socket", ptr],
  );
  const socket = b.struct("socket", gap(16), ...pointers("file", "sk"));
  b.struct("socket_alloc", ["socket", socket], ["vfs_inode", b.of.inode!]);
  b.struct("tcp_sock", ["sk", sock], ...words("write_seq", "snd_una", "rcv_nxt", "copied_seq"));
  b.struct("udp_sock", ["sk", sock], ...words("len", "forward_deficit"));
  b.struct("inet_timewait_sock", ["__tw_common", common], ["tw_mark", u32], ["tw_substate", u8]);
  b.struct("unix_sock", ["sk", sock], ...pointers("addr", "peer"));
  b.struct("unix_address", ...words("refcnt", "len"), ["name", array(u8, 0)]);
  b.struct("unix_skb_parms", gap(8), ["consumed", u32]);
  b.struct("sk_buff", ...pointers("next", "prev"), ["cb", array(u8, 48)], ["len", u32]);
  b.struct("packet_sock", ["sk", sock], ["ifindex", u32], ["num", u16]);
  b.struct("netlink_sock", ["sk", sock], ...words("portid", "dst_portid"), [
    "node",
    b.struct("rhash_head", ["next", ptr]),
  ]);

  const listening = b.struct("inet_listen_hashbucket", ["lock", u32], ["nulls_head", head]);
  b.struct(
    "inet_hashinfo",
    ["ehash", ptr],
    ["ehash_mask", u32],
    ...(old ? ([["listening_hash", array(listening, 32)]] as const) : ([["lhash2_mask", u32]] as const)),
    ...(old ? [] : pointers("lhash2")),
  );
  b.struct("udp_table", ...pointers("hash", "hash2"), ["mask", u32]);
  b.struct("udp_hslot", ["head", head], ["count", u32]);
  b.struct("raw_hashinfo", ["lock", u64], ["ht", array(head, 256)]);
  const table = b.struct("rhashtable", ["tbl", ptr], gap(16));
  b.struct("bucket_table", ...words("size", "nest"), ["future_tbl", ptr], ["buckets", array(ptr, 0)]);
  b.struct("netlink_table", ["hash", table], ["groups", u32]);
  b.struct("files_struct", gap(8), ["fdt", ptr]);
  b.struct("fdtable", ["max_fds", u32], ...pointers("fd", "open_fds"));

  const counts = [
    "rx_packets",
    "tx_packets",
    "rx_bytes",
    "tx_bytes",
    "rx_errors",
    "tx_errors",
    "rx_dropped",
    "tx_dropped",
  ];
  const stats = b.struct("net_device_stats", ...[...counts, "collisions"].map((name): Member => [name, u64]));
  const adjacent = b.struct("", ["upper", list], ["lower", list]);
  const kobject = b.struct("kobject", ["name", ptr], gap(24));
  const device = b.struct("device", ["kobj", kobject], ["parent", ptr], gap(16), ["bus", ptr]);
  b.struct(
    "net_device",
    ["name", array(u8, 16)],
    ["state", u64],
    ["dev_list", list],
    ["adj_list", adjacent],
    ...words("flags", "gflags", "mtu", "ifindex", "promiscuity", "operstate"),
    ["type", u16],
    ["addr_len", u8],
    ["pcpu_stat_type", u8],
    ["features", u64],
    ["nd_net", netRef],
    ...pointers("netdev_ops", "rtnl_link_ops", "dev_addr", "tstats", "ip_ptr", "ip6_ptr", "nf_hooks_ingress"),
    ["stats", stats],
    ["dev", device],
    ["ethtool_ops", ptr],
  );
  b.struct("ethtool_ops", gap(40), ["get_link_ksettings", ptr]);
  b.struct("netdev_adjacent", ["dev", ptr], ["master", u8], ["list", list]);
  b.struct("rtnl_link_ops", gap(16), ["kind", ptr]);
  b.struct("net_device_ops", ...pointers("ndo_get_stats64", "ndo_get_stats"));
  b.struct(
    "pcpu_sw_netstats",
    ...["rx_packets", "rx_bytes", "tx_packets", "tx_bytes"].map((name): Member => [name, u64]),
  );
  b.struct("pcpu_lstats", ["packets", u64], ["bytes", u64]);
  b.struct("in_device", ["dev", ptr], ["ifa_list", ptr]);
  b.struct(
    "in_ifaddr",
    ["ifa_next", ptr],
    ...words("ifa_local", "ifa_address", "ifa_mask", "ifa_broadcast", "ifa_flags"),
    ["ifa_label", array(u8, 16)],
  );
  b.struct("inet6_dev", ["dev", ptr], ["addr_list", list]);
  b.struct(
    "inet6_ifaddr",
    ["addr", address6],
    ...words("prefix_len", "flags"),
    ["if_list", list],
    ["peer_addr", address6],
  );

  b.struct("neigh_table", ...words("family", "key_len"), ["nht", ptr]);
  b.struct("neigh_hash_table", [old ? "hash_buckets" : "hash_heads", ptr], ["hash_shift", u32]);
  b.struct(
    "neighbour",
    old ? ["next", ptr] : ["hash", hlist],
    ["tbl", ptr],
    ["nud_state", u8],
    gap(7),
    ["ha", array(u8, 32)],
    ["dev", ptr],
    ["primary_key", array(u8, 0)],
  );

  b.struct("dst_metrics", ["metrics", array(u32, 17)]);
  const hop = b.struct(
    "fib_nh_common",
    ["nhc_dev", ptr],
    ...["nhc_flags", "nhc_family", "nhc_gw_family"].map((name): Member => [name, u8]),
    gap(5),
    ["nhc_gw", address6],
    ["nhc_weight", u32],
  );
  b.struct("nexthop", gap(8), ["is_group", u8], ["nh_info", ptr]);
  b.struct("nh_info", gap(8), ["reject_nh", u8], ["fib_nhc", hop]);
  b.struct("nh_group", gap(8), ["num_nh", u16], ["nh_entries", array(u64, 0)]);
  b.struct("nh_grp_entry", ["nh", ptr], ["weight", u16]);
  b.struct("fib_table", ["tb_hlist", hlist], ["tb_id", u32], ["tb_data", ptr]);
  const children = b.union("", ["leaf", head], ["tnode", array(ptr, 0)]);
  const vector = b.struct("key_vector", ["key", u32], ["pos", u8], ["bits", u8], ["", children]);
  b.struct("trie", ["kv", array(vector, 1)]);
  b.struct("fib_alias", ["fa_list", hlist], ["fa_info", ptr], ["fa_type", u8], ["fa_slen", u8], ["tb_id", u32]);
  const nextHop = b.struct("fib_nh", ["nh_common", hop], gap(8));
  b.struct(
    "fib_info",
    ...words("fib_prefsrc", "fib_priority"),
    ["fib_protocol", u8],
    ["fib_metrics", ptr],
    ["fib_nhs", u32],
    ["nh", ptr],
    ["fib_nh", array(nextHop, 0)],
  );
  const node = b.struct("fib6_node", ...pointers("parent", "left", "right", "leaf"), ["fn_flags", u16]);
  b.struct("fib6_table", ["tb6_hlist", hlist], ["tb6_id", u32], ["tb6_root", node]);
  const key = b.struct("rt6key", ["addr", address6], ["plen", u32]);
  const way = b.struct("fib6_nh", ["nh_common", hop]);
  b.struct(
    "fib6_info",
    ...pointers("fib6_next", "fib6_metrics", "nh"),
    ["fib6_metric", u32],
    ["fib6_protocol", u8],
    ["fib6_type", u8],
    ["fib6_dst", key],
    ["fib6_prefsrc", key],
    ["fib6_nh", array(way, 1)],
  );
}
