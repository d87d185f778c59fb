// netfilter_hooks against what the guest's programs registered, and against nfnetlink_hook where the kernel has it.
import assert from "node:assert/strict";
import { type Row, read } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";

/**
 * Prints "FAMILY HOOK PRIORITY FUNCTION MODULE DEVICE" a hook, as the kernel lists them (NFNL_MSG_HOOK_GET); "none" where
 * it can't.
 */
const lister = `
import socket, struct
def attributes(data):
    while len(data) >= 4:
        length, kind = struct.unpack_from("HH", data)
        yield kind & 0x3fff, data[4:length]
        data = data[(length + 3) & ~3:]
def dump(family, hook, device=None):
    body = struct.pack(">BBH", family, 0, 0) + struct.pack("HH", 8, 1) + struct.pack(">I", hook)
    if device:
        name = device.encode() + bytes(1)
        body += struct.pack("HH", 4 + len(name), 3) + name + bytes(-len(name) % 4)
    netlink.send(struct.pack("IHHII", 16 + len(body), 12 << 8, 0x301, 1, 0) + body)
    while True:
        data = netlink.recv(65536)
        while data:
            length, kind = struct.unpack_from("IH", data)
            if kind == 3:
                return
            if kind == 2:
                error = -struct.unpack_from("i", data, 16)[0]
                if error in (2, 95): return
                raise OSError(error, "hooks")
            found = dict(attributes(data[20:length]))
            word = lambda kind: found.get(kind, b"").rstrip(bytes(1)).decode() or "-"
            print(names[family], hook, struct.unpack(">i", found[2])[0], word(4), word(5), device or "-")
            data = data[(length + 3) & ~3:]
names = {2: "ipv4", 3: "arp", 5: "netdev", 7: "bridge", 10: "ipv6"}
netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
netlink.bind((0, 0))
netlink.settimeout(5)
try:
    for family, hooks in ((2, 5), (10, 5), (3, 3), (7, 5)):
        for hook in range(hooks):
            dump(family, hook)
    dump(5, 0, "lo")
except OSError as error:
    print("none", error)
`;

const hooks = ["prerouting", "input", "forward", "output", "postrouting"];
const arpHooks = ["input", "output", "forward"];
const numberOf = ({ family, hook }: Row) =>
  family === "netdev" ? 0 : (family === "arp" ? arpHooks : hooks).indexOf(hook as string);

/** Chains that the workload makes (lab/guest/full/kernel.py), in the first namespace and in one of its own. */
const first = [
  ["ipv4", "input", 5, "nft_do_chain_ipv4"],
  ["ipv6", "output", -7, "nft_do_chain_ipv6"],
  ["arp", "input", 0, "nft_do_chain_arp"],
  ["netdev", "ingress", 17, "nft_do_chain_netdev"],
] as const;
const second = [
  ["ipv4", "prerouting", -100, "nf_nat_ipv4_pre_routing"],
  ["ipv4", "postrouting", 300, "nft_do_chain_inet"],
  ["ipv6", "postrouting", 300, "nft_do_chain_inet"],
  ["ipv4", "output", -100, "nf_nat_ipv4_local_fn"],
] as const;

export const comparison: Comparison = {
  table: "netfilter_hooks",
  async compare(subject, guest) {
    const { lab } = subject;
    const own = Number(await lab.exec("cat /run/full/kernel"));
    const initial = Number(/\[(\d+)\]/.exec(await lab.exec("readlink /proc/1/ns/net"))![1]);
    const holder = (
      await lab.exec(
        `for p in /proc/[0-9]*; do [ "$(readlink $p/ns/net)" = "net:[${own}]" ] && echo \${p#/proc/} && break; done`,
      )
    ).trim();
    const rows = read(guest, "netfilter_hooks");
    const symbols = await lab.kallsyms();
    for (const row of rows) {
      const about = JSON.stringify(row);
      assert.equal(row.registered, 1, about);
      const at = BigInt(row.address as string);
      assert.ok(
        symbols.some(
          ({ name, address, module = "" }) => address === at && name === row.symbol && module === row.module,
        ),
        about,
      );
    }
    for (const [namespace, chains] of [
      [initial, first],
      [own, second],
    ] as const) {
      for (const [family, hook, priority, symbol] of chains) {
        assert.ok(
          rows.some(
            (row) =>
              row.net_namespace === namespace &&
              row.family === family &&
              row.hook === hook &&
              row.priority === priority &&
              row.symbol === symbol,
          ),
          `${symbol} at ${family} ${hook} in ${namespace}`,
        );
      }
    }
    let listed = 0;
    for (const [namespace, prefix] of [
      [initial, ""],
      [own, `nsenter -t ${holder} -n `],
    ] as const) {
      const output = (await lab.exec(`${prefix}python3 -I -S -c '${lister}'`)).trimEnd().split("\n");
      if (output[0]!.startsWith("none")) continue;
      const actual = rows
        .filter(({ net_namespace, device }) => net_namespace === namespace && (device === null || device === "lo"))
        .map(({ family, hook, priority, symbol, module, device }) =>
          [
            family,
            numberOf({ family: family!, hook: hook! }),
            priority,
            symbol,
            module === "" ? "-" : module,
            device ?? "-",
          ].join(" "),
        );
      assert.deepEqual(
        actual,
        output.filter((line) => line !== ""),
      );
      listed += actual.length;
    }
    const lists = symbols.some(({ name }) => name === "nfnl_hook_dump");
    assert.equal(listed > 0, lists, `${listed} hooks as the kernel lists them`);
    return `${rows.length} rows, ${listed} as the kernel lists them`;
  },
};
