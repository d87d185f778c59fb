// timers_and_workqueues against /proc/timer_list, the timers of /proc/net/tcp, and the names of workqueues' threads.
import assert from "node:assert/strict";
import type { Guest } from "../../vmi/index.ts";
import { variable } from "../engine/kernel.ts";
import { type Row, read, type Subject, textIn } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";

/** "CPU CLOCK FUNCTION EARLIEST-EXPIRES" of each high-resolution timer of /proc/timer_list. */
function timerList(text: string): string[] {
  const found: string[] = [];
  let cpu = "";
  let clock = "";
  let name = "";
  for (const line of text.split("\n")) {
    cpu = /^cpu: (\d+)/.exec(line)?.[1] ?? cpu;
    clock = /^ clock (\d+):/.exec(line)?.[1] ?? clock;
    name = /^ #\d+: <[^>]*>, ([^,]+), S:/.exec(line)?.[1] ?? name;
    const times = /^ # expires at (\d+)-(\d+) nsecs/.exec(line);
    if (times) found.push(`${cpu} ${clocks[Number(clock)]} ${name} ${times[1]}-${times[2]}`);
  }
  return found;
}

/** In the order of enum hrtimer_base_type (include/linux/hrtimer.h, since 4.16). */
const names = ["monotonic", "realtime", "boottime", "tai"];
const clocks = [...names, ...names.map((name) => `${name} soft`)];
const HZ = 250;
const WQ_MEM_RECLAIM = 8;
const WQ_SYSFS = 64;
/** TASK_COMM_LEN, less the zero at its end. */
const COMM = 15;

export const comparison: Comparison = {
  table: "timers_and_workqueues",
  async compare(subject, guest) {
    const { lab } = subject;
    const before = timerList(await lab.exec("cat /proc/timer_list"));
    const rows = read(guest, "timers_and_workqueues");
    const after = timerList(await lab.exec("cat /proc/timer_list"));
    const ofKind = (kind: string) => rows.filter((row) => row.kind === kind);

    // Most of them tick on meanwhile; those that did not must be there, and only once.
    const high = ofKind("hrtimer").map(
      ({ cpu, clock, symbol, earliest, expires }) => `${cpu} ${clock} ${symbol} ${earliest}-${expires}`,
    );
    const still = before.filter((line) => after.includes(line));
    for (const line of still) assert.equal(high.filter((row) => row === line).length, 1, line);
    const functions = new Set([...before, ...after].map((line) => line.split(" ").at(-2)));
    for (const line of high) assert.ok(functions.has(line.split(" ").at(-2)!), line);
    const expected = ["it_real_fn", "timerfd_tmrproc", "hrtimer_wakeup"];
    for (const name of expected)
      assert.ok(
        still.some((line) => line.includes(` ${name} `)),
        name,
      );

    await compareTcp(subject.lab, Number(variable(guest, "jiffies_64")), ofKind("timer"));
    await compareQueues(subject.lab, ofKind("workqueue"));
    for (const row of [...ofKind("timer"), ...ofKind("delayed_work")]) {
      assert.ok(typeof row.symbol === "string" && !row.symbol.includes("+"), JSON.stringify(row));
    }
    assert.ok(ofKind("delayed_work").some(({ symbol }) => symbol === "wakeup_dirtytime_writeback"));
    await compareRunning(subject, guest);
    const one = read(guest, "timers_and_workqueues", { where: [{ column: "kind", values: ["workqueue"] }] });
    assert.equal(one.length, ofKind("workqueue").length);
    return `${rows.length} rows, ${still.length} hrtimers unchanged`;
  },
};

/**
 * A work that takes its time: a worker starts the program that is to load a module, and waits for its end. The name of
 * the worker tells whose work it is at.
 */
async function compareRunning({ lab }: Subject, guest: Guest): Promise<void> {
  const busyWith = async () =>
    (await lab.exec("cat /proc/[0-9]*/comm"))
      .split("\n")
      .map((comm) => /^kworker\/.*\+(.*)$/.exec(comm)?.[1])
      .filter((name) => name !== undefined);
  await lab.exec(`
mkfifo /run/helper-ends
printf '#!/bin/sh\\nread x < /run/helper-ends\\n' > /run/helper
chmod 755 /run/helper
cat /proc/sys/kernel/modprobe > /run/modprobe
echo /run/helper > /proc/sys/kernel/modprobe
mount -t nosuchfs none /mnt >/dev/null 2>&1 &
while ! grep -q helper /proc/[0-9]*/comm 2>/dev/null; do usleep 10000; done`);
  try {
    const before = await busyWith();
    const running = read(guest, "timers_and_workqueues", { where: [{ column: "kind", values: ["running_work"] }] });
    const after = await busyWith();
    const still = before.filter((name) => after.includes(name));
    for (const name of still)
      assert.ok(
        running.some((row) => row.name === name),
        `no work of ${name} runs`,
      );
    for (const { name } of running)
      assert.ok(before.includes(name as string) || after.includes(name as string), String(name));
    const helper = running.filter(({ symbol }) => symbol === "call_usermodehelper_exec_work");
    assert.deepEqual(
      helper.map(({ name }) => name),
      ["events_unbound"],
    );
  } finally {
    await lab.exec("cat /run/modprobe > /proc/sys/kernel/modprobe; echo > /run/helper-ends; rm /run/helper-ends");
  }
}

type Lab = Parameters<Comparison["compare"]>[0]["lab"];

/** The timers that keep connections alive: /proc/net/tcp says when they expire, in hundredths of a second. */
async function compareTcp(lab: Lab, jiffies: number, timers: readonly Row[]): Promise<void> {
  const lines = (await lab.exec("cat /proc/net/tcp")).trimEnd().split("\n").slice(1);
  const keptAlive = lines.map((line) => / 02:([0-9A-F]{8}) /.exec(line)?.[1]).filter((when) => when !== undefined);
  assert.ok(keptAlive.length > 0, "no connection is kept alive");
  const rows = timers.filter(({ symbol }) => symbol === "tcp_keepalive_timer");
  for (const when of keptAlive) {
    const seconds = Number.parseInt(when, 16) / 100;
    const near = rows.some(({ expires }) => Math.abs(((expires as number) - jiffies) / HZ - seconds) < 60);
    assert.ok(near, `none of ${rows.length} timers expires in ${seconds} s`);
  }
}

/** A kernel thread's name in /proc: whole from 5.17 (d6986ce24fc0), cut before. */
const namesOf = (name: string) => [name, name.slice(0, COMM)];

/** A workqueue for reclaim has a thread of its name, and one in /sys a device. */
async function compareQueues(lab: Lab, rows: readonly Row[]): Promise<void> {
  const comms = (await lab.exec("cat /proc/[0-9]*/comm")).split("\n");
  const newer = comms.filter((comm) => comm.startsWith("kworker/R-"));
  const prefix = newer.length > 0 ? "kworker/R-" : "";
  const has = (row: Row, flag: number) => ((row.flags as number) & flag) !== 0;
  const rescued = rows.filter((row) => has(row, WQ_MEM_RECLAIM));
  assert.ok(rows.length > 20 && rescued.length > 5);
  for (const row of rescued) {
    const name = textIn(row, "name");
    assert.ok(
      namesOf(`${prefix}${name}`).some((comm) => comms.includes(comm)),
      `no thread of ${name}`,
    );
  }
  const wanted = rescued.flatMap((row) => namesOf(`${prefix}${textIn(row, "name")}`));
  for (const comm of newer) assert.ok(wanted.includes(comm), `no workqueue of ${comm}`);
  const devices = (await lab.exec("ls /sys/bus/workqueue/devices")).trim().split(/\s+/).sort();
  assert.deepEqual(
    rows
      .filter((row) => has(row, WQ_SYSFS))
      .map((row) => textIn(row, "name").replaceAll("/", "!"))
      .sort(),
    devices,
  );
}
