// process_open_sockets against the links of /proc/PID/fd, and /proc/net.
import assert from "node:assert/strict";
import { compareByProcess } from "./by-process.ts";
import type { Comparison } from "./comparison.ts";
import { networkTruth } from "./network.ts";
import { socketOf, socketsOf } from "./sockets.ts";

/** Families that have a file in /proc/net; of another, an inode is all that /proc tells. */
const FAMILIES = new Set([1, 2, 10, 16, 17]);
/** Type of one of AF_XDP, which every kernel of the lab has built in. */
const XDP = { family: 44, type: "raw" } as const;

export const comparison: Comparison = {
  table: "process_open_sockets",
  async compare(subject, guest) {
    const known = new Map<number, string>();
    for (const [inode, namespace] of await networkTruth(subject)) {
      for (const { inode: socket, core } of socketsOf(inode, namespace)) known.set(socket, core);
    }
    let described = 0;
    const others = new Map<number, string>();
    const { rows } = await compareByProcess(
      subject,
      guest,
      "process_open_sockets",
      ({ files }) => {
        const links = [...files].map(([fd, link]) => [fd, Number(/^socket:\[(\d+)\]$/.exec(link)?.[1])] as const);
        return links.filter(([, inode]) => !Number.isNaN(inode)).toSorted(([a], [b]) => a - b);
      },
      (found) =>
        found.map((row) => {
          if (!FAMILIES.has(row.family as number)) {
            others.set(row.family as number, row.type as string);
            assert.deepEqual([row.state, row.local_address, row.path], [null, null, null]);
            return [row.fd as number, row.socket as number] as const;
          }
          const { inode, core } = socketOf(row);
          // Those that are bound to nothing are in no file of /proc/net.
          if (known.has(inode)) {
            assert.equal(core, known.get(inode));
            described++;
          }
          return [row.fd as number, inode] as const;
        }),
    );
    assert.ok(described > 60, `${described} sockets are in /proc/net`);
    assert.equal(others.get(XDP.family), XDP.type);
    return `${rows} rows, ${described} of them in /proc/net, others of families ${[...others.keys()].join()}`;
  },
};
