// routes against rtnetlink's dump of routes in every network namespace.
import assert from "node:assert/strict";
import { read } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";
import { addressText, between, type NamespaceTruth, networkTruth } from "./network.ts";

/** include/uapi/linux/rtnetlink.h */
const RTA = {
  destination: 1,
  oif: 4,
  gateway: 5,
  priority: 6,
  source: 7,
  metrics: 8,
  multipath: 9,
  table: 15,
  via: 18,
};
const RTAX_MTU = 2;
const RTAX_HOPLIMIT = 10;
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
];
const FAMILIES = new Set([2, 10]);

function attributesIn(data: Buffer): Map<number, Buffer> {
  const found = new Map<number, Buffer>();
  for (let at = 0; at + 4 <= data.length; at += (data.readUInt16LE(at) + 3) & ~3)
    found.set(data.readUInt16LE(at + 2) & 0x3fff, data.subarray(at + 4, at + data.readUInt16LE(at)));
  return found;
}

function expected(inode: number, { route, link }: NamespaceTruth): string[] {
  const names = new Map(
    link.map(([header, attributes]) => [header.readInt32LE(4), attributes.get(3)!.toString("latin1").split("\0")[0]]),
  );
  return route
    .filter(([header]) => FAMILIES.has(header[0]!))
    .flatMap(([header, attributes]) => {
      const six = header[0] === 10;
      const text = (bytes: Buffer | undefined) => (bytes === undefined ? "-" : addressText(bytes));
      const destination = attributes.get(RTA.destination) ?? Buffer.alloc(six ? 16 : 4);
      const metrics = attributesIn(attributes.get(RTA.metrics) ?? Buffer.alloc(0));
      const metric = (number: number) => metrics.get(number)?.readUInt32LE() ?? 0;
      const shared = {
        head: [inode, header[0], addressText(destination), header[1], text(attributes.get(RTA.source))],
        tail: [
          metric(RTAX_MTU),
          attributes.get(RTA.priority)?.readUInt32LE() ?? 0,
          TYPES[header[7]!],
          metric(RTAX_HOPLIMIT),
          attributes.get(RTA.table)!.readUInt32LE(),
          header[5],
        ],
      };
      const row = (of: ReadonlyMap<number, Buffer>, index: number | undefined, flags: number) => {
        // An IPv4 route by a gateway of IPv6: its family is in front.
        const gateway = of.get(RTA.gateway) ?? of.get(RTA.via)?.subarray(2);
        const device = index === undefined ? "-" : names.get(index);
        return [...shared.head, text(gateway), flags, device, ...shared.tail].join(" ");
      };
      const multipath = attributes.get(RTA.multipath);
      if (multipath === undefined)
        return [row(attributes, attributes.get(RTA.oif)?.readUInt32LE(), header.readUInt32LE(8) & 0x5d)];
      const rows: string[] = [];
      for (let at = 0; at + 8 <= multipath.length; at += (multipath.readUInt16LE(at) + 3) & ~3) {
        const hop = attributesIn(multipath.subarray(at + 8, at + multipath.readUInt16LE(at)));
        rows.push(row(hop, multipath.readInt32LE(at + 4), multipath[at + 2]!));
      }
      return rows;
    });
}

export const comparison: Comparison = {
  table: "routes",
  async compare(subject, guest) {
    const truth = async () =>
      [...(await networkTruth(subject))].flatMap(([inode, namespace]) => expected(inode, namespace)).toSorted();
    const { truth: known, result: rows } = await between(truth, () => read(guest, "routes"));
    const actual = rows.map((row) =>
      [
        row.net_namespace,
        row.family,
        row.destination,
        row.netmask,
        row.source,
        row.gateway,
        row.flags,
        row.interface,
        row.mtu,
        row.metric,
        row.type,
        row.hopcount,
        row.table,
        row.protocol,
      ]
        .map((cell) => cell ?? "-")
        .join(" "),
    );
    assert.deepEqual(actual.toSorted(), known);

    const count = (destination: string) => rows.filter((row) => row.destination === destination).length;
    assert.equal(count("198.51.100.0"), 2);
    assert.equal(count("2001:db8:1::"), 2);
    for (const destination of ["203.0.113.0", "192.0.2.0", "172.16.0.0", "172.31.0.0", "2001:db8::", "2001:db8:2::"])
      assert.ok(count(destination) > 0, destination);
    for (const type of ["gateway", "local", "broadcast", "multicast", "blackhole", "unreachable"])
      assert.ok(
        rows.some((row) => row.type === type),
        type,
      );
    assert.ok(rows.some((row) => row.hopcount === 7));
    const main = read(guest, "routes", { where: [{ column: "table", values: ["254"] }] });
    assert.equal(main.length, rows.filter((row) => row.table === 254).length);
    return `${rows.length} rows`;
  },
};
