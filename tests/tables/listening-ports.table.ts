// listening_ports against /proc/net of every network namespace, and the links of /proc/PID/fd.
import assert from "node:assert/strict";
import { read } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";
import { between, networkTruth } from "./network.ts";
import { socketsOf } from "./sockets.ts";

const WAITING = [
  /^\d+ (?:2|10) 6 stream LISTEN /,
  // A port of its own, and none of another's.
  /^\d+ (?:2|10) \d+ dgram \S+ \S+ [1-9]\d* \S+ 0$/,
  /^\d+ 1 \S+ LISTEN (?!-)/,
  /^\d+ 1 dgram \S+ (?!-)/,
];

export const comparison: Comparison = {
  table: "listening_ports",
  async compare(subject, guest) {
    const truth = async () => {
      const { processes } = await subject.lab.truth();
      const owners = [...processes.values()].flatMap(({ pid, files }) =>
        [...files].map(([fd, link]) => [link, `${pid} ${fd}`] as const),
      );
      const byLink = Map.groupBy(owners, ([link]) => link);
      return [...(await networkTruth(subject))]
        .flatMap(([inode, namespace]) => socketsOf(inode, namespace))
        .filter(({ core }) => WAITING.some((pattern) => pattern.test(core)))
        .flatMap(({ inode, core }) => {
          const [space, family, ...words] = core.split(" ");
          const [protocol, port, address, path] =
            family === "1" ? [0, 0, "-", words[2]] : [words[0], words[4], words[3], "-"];
          const found = byLink.get(`socket:[${inode}]`)?.map(([, owner]) => owner) ?? ["- -"];
          return found.map((owner) => `${space} ${family} ${protocol} ${port} ${address} ${path} ${inode} ${owner}`);
        })
        .toSorted();
    };
    const { truth: expected, result: rows } = await between(truth, () => read(guest, "listening_ports"));
    const actual = rows.map((row) =>
      [row.net_namespace, row.family, row.protocol, row.port, row.address, row.path, row.socket ?? 0, row.pid, row.fd]
        .map((cell) => cell ?? "-")
        .join(" "),
    );
    assert.deepEqual(actual.toSorted(), expected);
    for (const port of [7001, 7002, 7003, 7006, 8080])
      assert.ok(
        rows.some((row) => row.port === port),
        `port ${port}`,
      );
    assert.ok(new Set(rows.map((row) => row.net_namespace)).size > 1);
    const one = read(guest, "listening_ports", { where: [{ column: "port", values: ["7001"] }] });
    assert.equal(one.length, rows.filter((row) => row.port === 7001).length);
    return `${rows.length} rows`;
  },
};
