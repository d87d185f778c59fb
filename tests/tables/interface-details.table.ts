// interface_details against rtnetlink's dump of links in every network namespace.
import assert from "node:assert/strict";
import { type Row, read } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";
import { type Message, networkTruth } from "./network.ts";

/** include/uapi/linux/if_link.h */
const IFLA = {
  address: 1,
  name: 3,
  mtu: 4,
  master: 10,
  operstate: 16,
  info: 18,
  stats64: 23,
  promiscuity: 30,
} as const;
const OPERSTATES = ["unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up"];
/** Of rtnl_link_stats64, in its order. */
const COUNTS = ["ipackets", "opackets", "ibytes", "obytes", "ierrors", "oerrors", "idrops", "odrops", "", "collisions"];

/** Kinds whose drivers can tell a speed. */
const TELL_SPEED = new Set(["veth", "bridge", "tun"]);

const text = (bytes: Buffer | undefined) => (bytes === undefined ? null : bytes.toString("latin1").split("\0")[0]!);

function expected(inode: number, links: readonly Message[]): Row[] {
  const names = new Map(links.map(([header, attributes]) => [header.readInt32LE(4), text(attributes.get(IFLA.name))]));
  return links.map(([header, attributes]) => {
    const mac = attributes.get(IFLA.address);
    const master = attributes.get(IFLA.master);
    // Nested: IFLA_INFO_KIND is the first.
    const info = attributes.get(IFLA.info);
    const stats = attributes.get(IFLA.stats64)!;
    const counts = COUNTS.map((name, i) => [name, Number(stats.readBigUInt64LE(i * 8))] as const);
    return {
      interface: text(attributes.get(IFLA.name)),
      mac: mac === undefined ? null : mac.toString("hex").replace(/(..)(?!$)/g, "$1:"),
      type: header.readUInt16LE(2),
      mtu: attributes.get(IFLA.mtu)!.readUInt32LE(),
      metric: 0,
      flags: header.readUInt32LE(8),
      ...Object.fromEntries(counts.filter(([name]) => name !== "")),
      last_change: { absent: "unsupported" },
      link_speed: info !== undefined && TELL_SPEED.has(text(info.subarray(4))!) ? { absent: "unsupported" } : null,
      // The lab's guests have no hardware for a network.
      pci_slot: null,
      link_state: OPERSTATES[attributes.get(IFLA.operstate)![0]!]!,
      kind: info === undefined ? null : text(info.subarray(4)),
      promiscuity: attributes.get(IFLA.promiscuity)!.readUInt32LE(),
      ifindex: header.readInt32LE(4),
      master: master === undefined ? null : (names.get(master.readUInt32LE()) ?? null),
      net_namespace: inode,
    };
  });
}

const COUNTED = COUNTS.filter((name) => name !== "");
const keyOf = (row: Row) => `${row.net_namespace} ${row.ifindex}`;

export const comparison: Comparison = {
  table: "interface_details",
  async compare(subject, guest) {
    const truth = async () => [...(await networkTruth(subject))].flatMap(([inode, { link }]) => expected(inode, link));
    const before = await truth();
    const rows = read(guest, "interface_details").map(({ device: _, ...row }) => row);
    const after = new Map((await truth()).map((row) => [keyOf(row), row as Row]));
    // What is counted goes on meanwhile.
    const known = before.map((row) => {
      const later = after.get(keyOf(row));
      const found = rows.find((other) => keyOf(other) === keyOf(row));
      const counts = COUNTED.map((name) => {
        const count = found?.[name] as number;
        const [least, most] = [row[name] as number, later?.[name] as number];
        assert.ok(count >= least && count <= most, `${keyOf(row)} ${name}: ${least} <= ${count} <= ${most}`);
        return [name, count] as const;
      });
      return { ...row, ...Object.fromEntries(counts) };
    });
    const byKey = (a: Row, b: Row) => (keyOf(a) < keyOf(b) ? -1 : 1);
    assert.deepEqual(rows.toSorted(byKey), known.toSorted(byKey));

    const left = rows.find((row) => row.interface === "left0");
    assert.ok(left !== undefined && (left.ipackets as number) > 10 && left.kind === "veth");
    assert.ok(rows.some((row) => row.kind === "bridge"));
    assert.ok(rows.some((row) => row.master !== null));
    assert.ok(rows.some((row) => (row.promiscuity as number) > 0));
    const one = read(guest, "interface_details", { where: [{ column: "interface", values: ["left0"] }] });
    assert.equal(one.length, 1);
    return `${rows.length} rows`;
  },
};
