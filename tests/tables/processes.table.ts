// processes against what /proc/PID says of each before and after.
import assert from "node:assert/strict";
import { type Truth, textOf } from "../../lab/index.ts";
import { compareProcesses, compareStartTimes, type Paired, readDirectories } from "../engine/processes.ts";
import type { Subject } from "../engine/support.ts";
import { withTasks } from "./by-process.ts";
import type { Comparison } from "./comparison.ts";

/** Milliseconds of a clock tick of /proc. */
const TICK = 10;
/** An idle guest's clock may be behind by so many. */
const SECONDS_WITHOUT_TICK = 5;

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
    const directories = await readDirectories(subject);
    const ioBefore = await ioOf(subject, await subject.lab.truth());
    const { paired, before, after } = await withTasks(subject, guest);
    const ioAfter = await ioOf(subject, after);
    compareProcesses(paired, directories, () => {});
    compareStartTimes(
      paired.map(({ row, was }) => ({ row, stat: was.stat })),
      before,
    );
    const states = new Set(paired.map(({ row }) => row.state));
    for (const state of ["S", "T", "t", "Z", "I"]) assert.ok(states.has(state), `no process is ${state}`);
    assert.ok(paired.some(({ row }) => row.cwd === "/tmp/removed" && row.cwd_deleted === 1));
    assert.ok(paired.some(({ row }) => row.on_disk === 0) && paired.some(({ row }) => row.uid !== row.euid));
    const used = paired.map((pair) => {
      const { pid } = pair.was;
      return compareUsage(pair, ioBefore.get(pid), ioAfter.get(pid), before.uptime, after.uptime);
    });
    const sum = (key: keyof Used) => used.reduce((total, each) => total + each[key], 0);
    assert.ok(sum("ms") > 0 && sum("locked") > 0, `${sum("ms")} ms, ${sum("locked")} bytes locked`);
    return `${paired.length} rows: ${sum("ms")} ms, ${sum("moved")} bytes of disks, ${sum("locked")} bytes locked`;
  },
};

interface Used {
  readonly ms: number;
  readonly moved: number;
  readonly locked: number;
}

/** What a process has used, and of which group it is, against /proc/PID/{stat,status,io}. */
function compareUsage(
  { row, was, is }: Paired,
  io: string | undefined,
  ioLater: string | undefined,
  uptime: number,
  uptimeLater: number,
): Used {
  const { pid, comm } = was;
  const within = (column: string, least: number, most: number) => {
    const value = row[column] as number;
    assert.ok(value >= least && value <= most, `${column} of ${pid} (${comm}): ${least} <= ${value} <= ${most}`);
    return value;
  };
  assert.equal(row.pgroup, was.stat.pgrp, `group of ${pid} (${comm})`);
  const user = within("user_time", was.stat.utime * TICK, (is.stat.utime + 1) * TICK);
  const system = within("system_time", was.stat.stime * TICK, (is.stat.stime + 1) * TICK);
  const started = was.stat.starttime / 100;
  within("elapsed_time", Math.floor(uptime - started) - SECONDS_WITHOUT_TICK, uptimeLater - started);
  const lockedKiB = was.status.get("VmLck");
  assert.equal(row.wired_size, lockedKiB === undefined ? null : Number.parseInt(lockedKiB, 10) * 1024);
  let moved = 0;
  if (io !== undefined && ioLater !== undefined) {
    const bytes = (of: string, name: string) => Number(new RegExp(`^${name}: (\\d+)$`, "m").exec(of)![1]);
    const written = (of: string) => bytes(of, "write_bytes") - bytes(of, "cancelled_write_bytes");
    const both = [written(io), written(ioLater)];
    moved += within("disk_bytes_read", bytes(io, "read_bytes"), bytes(ioLater, "read_bytes"));
    moved += within("disk_bytes_written", Math.min(...both), Math.max(...both));
  }
  return { ms: user + system, moved, locked: Number(row.wired_size ?? 0) };
}
