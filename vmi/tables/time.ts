import { GuestError } from "../errors.ts";
import { clockSourceName, timezoneMinutesWest } from "../linux/clock-source.ts";
import { clockOf } from "../linux/timekeeping.ts";
import { CELL } from "./columns.ts";
import { defineTable, integer, text } from "./table.ts";

const WEEKDAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/** One row: what time the guest thinks it is. */
export const time = defineTable({
  name: "time",
  description: "The guest's clock, as of its last tick: an idle guest ticks rarely, so it may be seconds behind",
  columns: {
    weekday: text("Day of the week (UTC)"),
    year: integer("Year (UTC)"),
    month: integer("Month, 1 to 12 (UTC)"),
    day: integer("Day of the month (UTC)"),
    hour: integer("Hour (UTC)"),
    minutes: integer("Minutes (UTC)"),
    seconds: integer("Seconds (UTC)"),
    timezone: text("UTC"),
    local_timezone: text("Never told: which zone programs show is not known to the kernel"),
    unix_time: integer("Seconds since 1970"),
    timestamp: text("The time as text (UTC)"),
    datetime: text("The time in ISO 8601 (UTC)"),
    iso_8601: text("The time in ISO 8601 (UTC)"),
    boot_time: integer("When the guest booted, seconds since 1970: btime of /proc/stat"),
    uptime: integer("Nanoseconds since boot, suspension included: /proc/uptime"),
    monotonic: integer("Nanoseconds since boot without suspension: CLOCK_MONOTONIC"),
    clock_source: text("Name of the clock that it counts with, such as kvm-clock or tsc"),
    minutes_west: integer("The kernel's own timezone (settimeofday), minutes west of Greenwich; mostly 0"),
  },
  cost: "constant",
  reads: ["tk_core (timekeeper_data from 6.17)", "timekeeper, clocksource", "sys_tz"],
  examples: ["SELECT datetime, uptime / 1000000000 AS up_seconds, clock_source FROM time"],
  generate: (context, out) => {
    const { kernel } = context;
    const clock = clockOf(kernel);
    if (clock === undefined) {
      throw new GuestError("unsupported-kernel", `kernel ${kernel.release}: its clock can't be found`);
    }
    const date = new Date(clock.realSeconds * 1000);
    const valid = Number.isFinite(date.getTime());
    const part = (value: () => number) => (valid ? value() : undefined);
    const iso = valid ? `${date.toISOString().slice(0, 19)}Z` : undefined;
    const bytes = (value: string | undefined) => (value === undefined ? undefined : Buffer.from(value));
    out.weekday?.pushOr(bytes(valid ? WEEKDAYS[date.getUTCDay()] : undefined), CELL.unreadable);
    out.year?.pushOr(
      part(() => date.getUTCFullYear()),
      CELL.unreadable,
    );
    out.month?.pushOr(
      part(() => date.getUTCMonth() + 1),
      CELL.unreadable,
    );
    out.day?.pushOr(
      part(() => date.getUTCDate()),
      CELL.unreadable,
    );
    out.hour?.pushOr(
      part(() => date.getUTCHours()),
      CELL.unreadable,
    );
    out.minutes?.pushOr(
      part(() => date.getUTCMinutes()),
      CELL.unreadable,
    );
    out.seconds?.pushOr(
      part(() => date.getUTCSeconds()),
      CELL.unreadable,
    );
    out.timezone?.push("UTC");
    out.local_timezone?.absent(CELL.unsupported);
    out.unix_time?.pushOr(clock.realSeconds, CELL.unreadable);
    out.timestamp?.pushOr(bytes(valid ? asctime(date) : undefined), CELL.unreadable);
    out.datetime?.pushOr(bytes(iso), CELL.unreadable);
    out.iso_8601?.pushOr(bytes(iso), CELL.unreadable);
    out.boot_time?.pushOr(Math.floor(clock.bootNanoseconds / 1e9), CELL.unreadable);
    out.uptime?.pushOr(Math.floor(clock.uptimeNanoseconds), CELL.unreadable);
    out.monotonic?.pushOr(Math.floor(clock.monotonicNanoseconds), CELL.unreadable);
    out.clock_source?.pushOr(clock.source && clockSourceName(kernel, clock.source), CELL.unreadable);
    out.minutes_west?.pushOr(timezoneMinutesWest(kernel), CELL.unsupported);
    context.row();
  },
});

/** As C's asctime() does, and the zone. */
function asctime(date: Date): string {
  const [weekday, day, month, year, clock] = date.toUTCString().split(/,? /);
  return `${weekday} ${month} ${day} ${clock} ${year} UTC`;
}
