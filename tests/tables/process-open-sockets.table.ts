// process_open_sockets against the links of /proc/PID/fd, and /proc/net.
import assert from "node:assert/strict";
import { compareByProcess } from "./by-process.ts";
import type { Comparison } from "./comparison.ts";
import { networkTruth } from "./network.ts";
import { socketOf, socketsOf } from "./sockets.ts";

/** Families that the table knows; of another, a descriptor has no row. */
const FAMILIES = new Set([1, 2, 10, 16, 17]);

export const comparison: Comparison = {
  table: "process_open_sockets",
  async compare(subject, guest) {
    const known = new Map<number, string>();
    for (const [inode, namespace] of await networkTruth(subject)) {
      for (const { inode: socket, core } of socketsOf(inode, namespace)) known.set(socket, core);
    }
    let described = 0;
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
          assert.ok(FAMILIES.has(row.family as number), `family ${row.family}`);
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
    return `${rows} rows, ${described} of them in /proc/net`;
  },
};
