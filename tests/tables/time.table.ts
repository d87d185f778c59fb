// time against the guest's own clock, bracketed by it.
import assert from "node:assert/strict";
import { read, textIn } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";

const SCRIPT =
  "date +%s; cut -d' ' -f1 /proc/uptime; sed -n 's/^btime //p' /proc/stat; cat /sys/devices/system/clocksource/clocksource0/current_clocksource";
/** Seconds that an idle guest's last tick may be ago. */
const IDLE = 4;

export const comparison: Comparison = {
  table: "time",
  async compare(subject, guest) {
    const ask = async () => (await subject.lab.exec(SCRIPT)).trimEnd().split("\n");
    const before = await ask();
    const [row, ...others] = read(guest, "time");
    const after = await ask();
    assert.ok(row !== undefined && others.length === 0);
    const between = (value: unknown, low: unknown, high: unknown, what: string) => {
      const number = Number(value);
      assert.ok(number >= Number(low) - IDLE && number <= Number(high) + 1, `${what}: ${value} in ${low}..${high}`);
    };
    between(row.unix_time, before[0], after[0], "unix_time");
    between(Number(row.uptime) / 1e9, before[1], after[1], "uptime");
    // Nothing suspends a guest of the lab.
    assert.equal(row.monotonic, row.uptime);
    assert.equal(row.boot_time, Number(after[2]));
    assert.equal(row.clock_source, after[3]);
    assert.equal(row.minutes_west, 0);
    const told = (
      await subject.lab.exec(`date -u -d @${row.unix_time} '+%A %Y %m %d %H %M %S %Y-%m-%dT%H:%M:%SZ'`)
    ).trim();
    const parts = [row.weekday, row.year, row.month, row.day, row.hour, row.minutes, row.seconds];
    const padded = parts.map((part) => (typeof part === "number" ? String(part).padStart(2, "0") : part));
    assert.equal([...padded, row.iso_8601].join(" "), told);
    assert.equal(row.datetime, row.iso_8601);
    assert.equal(Date.parse(textIn(row, "timestamp")), Number(row.unix_time) * 1000);
    return "1 row";
  },
};
