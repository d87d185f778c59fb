// What processes have used, and of which group they are, against /proc/PID/{stat,status,io}. The other columns of the
// table are compared in tests/engine.
import assert from "node:assert/strict";
import { type Truth, textOf } from "../../lab/index.ts";
import { read, type Subject } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";

/** Milliseconds of a clock tick of /proc. */
const TICK = 10;

async function ioOf(subject: Subject, { processes }: Truth): Promise<Map<number, string>> {
  const files = await subject.lab.readFiles([...processes.keys()].map((pid) => `/proc/${pid}/io`));
  const found = new Map<number, string>();
  for (const pid of processes.keys()) {
    const file = files.get(`/proc/${pid}/io`);
    if (file?.kind === "file") found.set(pid, textOf(file.data));
  }
  return found;
}

export const comparison: Comparison = {
  table: "processes",
  async compare(subject, guest) {
    const before = await subject.lab.truth();
    const ioBefore = await ioOf(subject, before);
    const rows = new Map(read(guest, "processes").map((row) => [row.pid as number, row]));
    const after = await subject.lab.truth();
    const ioAfter = await ioOf(subject, after);
    let compared = 0;
    let [used, moved, locked] = [0, 0, 0];
    for (const [pid, was] of before.processes) {
      const is = after.processes.get(pid);
      const [io, ioLater] = [ioBefore.get(pid), ioAfter.get(pid)];
      if (is?.stat.starttime !== was.stat.starttime || io === undefined || ioLater === undefined) continue;
      const row = rows.get(pid);
      assert.ok(row !== undefined, `process ${pid}`);
      const within = (column: string, least: number, most: number) => {
        const value = row[column] as number;
        assert.ok(
          value >= least && value <= most,
          `${column} of ${pid} (${was.comm}): ${least} <= ${value} <= ${most}`,
        );
        return value;
      };
      assert.equal(row.pgroup, was.stat.pgrp, `group of ${pid} (${was.comm})`);
      const times = (["user_time", "system_time"] as const).map((column, i) => {
        const [least, most] = i === 0 ? [was.stat.utime, is.stat.utime] : [was.stat.stime, is.stat.stime];
        return within(column, least * TICK, (most + 1) * TICK);
      });
      const bytes = (of: string, name: string) => Number(new RegExp(`^${name}: (\\d+)$`, "m").exec(of)![1]);
      const written = (of: string) => bytes(of, "write_bytes") - bytes(of, "cancelled_write_bytes");
      moved += within("disk_bytes_read", bytes(io, "read_bytes"), bytes(ioLater, "read_bytes"));
      moved += within(
        "disk_bytes_written",
        Math.min(written(io), written(ioLater)),
        Math.max(written(io), written(ioLater)),
      );
      const lockedKiB = was.status.get("VmLck");
      assert.equal(row.wired_size, lockedKiB === undefined ? null : Number.parseInt(lockedKiB, 10) * 1024);
      within(
        "elapsed_time",
        Math.floor(before.uptime - was.stat.starttime / 100) - SECONDS_WITHOUT_TICK,
        after.uptime - was.stat.starttime / 100,
      );
      used += times[0]! + times[1]!;
      locked += Number(row.wired_size ?? 0);
      compared++;
    }
    assert.ok(compared > 40, `${compared} processes`);
    assert.ok(used > 0 && locked > 0, `${used} ms, ${locked} bytes locked`);
    return `${compared} rows: ${used} ms, ${moved} bytes of disks, ${locked} bytes locked`;
  },
};

/** An idle guest's clock may be behind by so many. */
const SECONDS_WITHOUT_TICK = 5;
