// arp_cache against rtnetlink's dump of neighbours, and /proc/net/arp, in every network namespace.
import assert from "node:assert/strict";
import { read } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";
import { addressText, assertOneOf, linesOf, type NamespaceTruth, networkTruth } from "./network.ts";

/** include/uapi/linux/neighbour.h */
const NDA = { destination: 1, linkAddress: 2 } as const;
const STATES = new Map(
  ["none", "incomplete", "reachable", "stale", "delay", "probe", "failed", "noarp", "permanent"].map((name, i) => [
    i === 0 ? 0 : 1 << (i - 1),
    name,
  ]),
);
/** The address of the link is told only of these: NUD_VALID. */
const UNKNOWN = new Set(["none", "incomplete", "failed"]);
/** Those of bridges are another table. */
const FAMILIES = new Set([2, 10]);

/** By namespace, interface and address: the link's address and the state. */
function expected(inode: number, { neighbour, link }: NamespaceTruth): [string, string][] {
  const names = new Map(
    link.map(([header, attributes]) => [header.readInt32LE(4), attributes.get(3)!.toString("latin1").split("\0")[0]]),
  );
  return neighbour
    .filter(([header]) => FAMILIES.has(header[0]!))
    .map(([header, attributes]) => {
      const state = STATES.get(header.readUInt16LE(8))!;
      const mac = UNKNOWN.has(state)
        ? "?"
        : (attributes.get(NDA.linkAddress) ?? Buffer.alloc(0)).toString("hex").replace(/(..)(?!$)/g, "$1:");
      const index = header.readInt32LE(4);
      const address = addressText(attributes.get(NDA.destination)!);
      return [`${inode} ${names.get(index)} ${index} ${address}`, `${mac} ${state}`];
    });
}

/** /proc/net/arp, by namespace, interface and address: the flags and the link's address. */
function listed(inode: number, { files }: NamespaceTruth): [string, string][] {
  return linesOf(files.arp!).map(([address, , flags, mac, , device]) => [
    `${inode} ${device} ${address}`,
    `${flags} ${mac}`,
  ]);
}

export const comparison: Comparison = {
  table: "arp_cache",
  async compare(subject, guest) {
    const before = [...(await networkTruth(subject))];
    const rows = read(guest, "arp_cache");
    const after = [...(await networkTruth(subject))];
    const states = rows.map((row): [string, string] => {
      const mac = UNKNOWN.has(row.state as string) ? "?" : row.mac;
      return [`${row.net_namespace} ${row.interface} ${row.ifindex} ${row.address}`, `${mac} ${row.state}`];
    });
    const neighbours = (truth: typeof before) => new Map(truth.flatMap((each) => expected(...each)));
    assert.equal(new Map(states).size, rows.length, "an entry is told twice");
    assertOneOf(new Map(states), neighbours(before), neighbours(after));
    const arp = rows
      .filter(({ state, address }) => state !== "noarp" && !(address as string).includes(":"))
      .map((row): [string, string] => {
        const flags = row.permanent === 1 ? "0x6" : UNKNOWN.has(row.state as string) ? "0x0" : "0x2";
        return [`${row.net_namespace} ${row.interface} ${row.address}`, `${flags} ${row.mac}`];
      });
    const lines = (truth: typeof before) => new Map(truth.flatMap((each) => listed(...each)));
    assertOneOf(new Map(arp), lines(before), lines(after));
    for (const address of ["10.77.0.99", "10.77.0.98", "10.77.0.2", "fd77::99"])
      assert.ok(
        rows.some((row) => row.address === address),
        address,
      );
    assert.ok(rows.some((row) => row.permanent === 1));
    return `${rows.length} rows`;
  },
};
