// interface_addresses against rtnetlink's dump of addresses in every network namespace.
import assert from "node:assert/strict";
import { read } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";
import { addressText, between, type Message, networkTruth } from "./network.ts";

/** include/uapi/linux/if_addr.h */
const IFA = { address: 1, local: 2, label: 3, broadcast: 4, flags: 8 } as const;
const PERMANENT = 0x80;

const mask = (bits: number, length: number) =>
  addressText(Buffer.from(Array.from({ length }, (_, i) => 0x100 - 2 ** (8 - Math.min(8, Math.max(0, bits - i * 8))))));

function expected(inode: number, addresses: readonly Message[], links: readonly Message[]) {
  const text = (bytes: Buffer | undefined) => bytes?.toString("latin1").split("\0")[0] ?? null;
  const names = new Map(links.map(([header, attributes]) => [header.readInt32LE(4), text(attributes.get(3))]));
  return addresses.map(([header, attributes]) => {
    const address = attributes.get(IFA.address)!;
    const local = attributes.get(IFA.local) ?? address;
    const broadcast = attributes.get(IFA.broadcast);
    const flags = attributes.get(IFA.flags)!.readUInt32LE();
    return {
      interface: names.get(header.readUInt32LE(4)),
      address: addressText(local),
      mask: mask(header[1]!, local.length),
      broadcast: broadcast === undefined ? null : addressText(broadcast),
      point_to_point: local.equals(address) ? null : addressText(address),
      type: (flags & PERMANENT) === 0 ? "auto" : "manual",
      label: text(attributes.get(IFA.label)),
      flags,
      ifindex: header.readUInt32LE(4),
      net_namespace: inode,
    };
  });
}

export const comparison: Comparison = {
  table: "interface_addresses",
  async compare(subject, guest) {
    const truth = async () =>
      [...(await networkTruth(subject))].flatMap(([inode, { address, link }]) => expected(inode, address, link));
    const { truth: known, result: rows } = await between(truth, () => read(guest, "interface_addresses"));
    const sorted = (all: readonly object[]) => all.map((row) => JSON.stringify(row)).toSorted();
    assert.deepEqual(sorted(rows), sorted(known));
    for (const address of ["127.0.0.1", "::1", "10.77.0.1", "10.77.0.11", "fd77::1", "fd88::1"])
      assert.ok(
        rows.some((row) => row.address === address),
        address,
      );
    assert.ok(rows.some((row) => row.point_to_point === "10.99.0.2" && row.label === "left0"));
    assert.ok(rows.some((row) => row.label === "left0:main" && row.broadcast === "10.77.0.255"));
    return `${rows.length} rows`;
  },
};
