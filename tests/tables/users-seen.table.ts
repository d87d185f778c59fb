// users_seen against the ids of every process's status.
import assert from "node:assert/strict";
import { read } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";

export const comparison: Comparison = {
  table: "users_seen",
  async compare(subject, guest) {
    const rows = read(guest, "users_seen");
    const { processes } = await subject.lab.truth();
    const logins = (await subject.lab.exec("grep -H . /proc/[0-9]*/loginuid 2>/dev/null || true"))
      .trimEnd()
      .split("\n")
      .map((line) => /^\/proc\/(\d+)\/loginuid:(\d+)$/.exec(line))
      .filter((match) => match !== null && match[2] !== "4294967295")
      .map((match) => ({ pid: Number(match![1]), uid: Number(match![2]) }));
    const all = [...processes.values()];
    const uids = new Set([...all.flatMap((process) => process.uids.slice(0, 3)), ...logins.map(({ uid }) => uid)]);
    const told = [...uids]
      .sort((a, b) => a - b)
      .map((uid) => {
        const of = all.filter((process) => process.uids.slice(0, 3).includes(uid));
        const sessions = logins.filter((login) => login.uid === uid);
        const namespaces = of.map((process) => Number(/\d+/.exec(process.namespaces.get("user") ?? "")));
        return {
          uid,
          processes: all.filter((process) => process.uids[0] === uid).length,
          effective: all.filter((process) => process.uids[1] === uid).length,
          saved: all.filter((process) => process.uids[2] === uid).length,
          logins: sessions.length,
          first_pid: Math.min(...[...of, ...sessions].map(({ pid }) => pid)),
          user_namespaces: [...new Set(namespaces)].sort((a, b) => a - b).join(" "),
        };
      });
    assert.deepEqual(rows, told);
    assert.ok([0, 33, 1000, 1001, 3001, 3002, 3003].every((uid) => uids.has(uid)));
    assert.ok(logins.length === 0 || rows.some((row) => row.uid === 2001 && row.logins === 1));
    const where = [{ column: "uid", values: ["3002"] }];
    assert.deepEqual(
      read(guest, "users_seen", { where }),
      rows.filter((row) => row.uid === 3002),
    );
    return `${rows.length} rows`;
  },
};
