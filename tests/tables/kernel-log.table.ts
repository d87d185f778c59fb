// kernel_log against /dev/kmsg, record by record.
import assert from "node:assert/strict";
import type { Guest } from "../../vmi/index.ts";
import { type Row, read, type Subject, textIn } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";

/** Each read of /dev/kmsg gives one record; an error in between means that some were overwritten meanwhile. */
const COLLECT = `python3 -I -S -c '
import posix
fd = posix.open("/dev/kmsg", posix.O_RDONLY | posix.O_NONBLOCK)
while True:
    try:
        posix.write(1, posix.read(fd, 8192) + b"\\0")
    except BlockingIOError:
        break
    except BrokenPipeError:
        pass
'`;
const ODD = "<13>lab: caf\\303\\251 \\134 tab\\there\\n";
/** More than the log has room for. */
const FILL = `python3 -I -S -c '
import posix
fd = posix.open("/dev/kmsg", posix.O_WRONLY)
for n in range(900):
    posix.write(fd, b"<31>fill %d %s\\n" % (n, b"x" * (n * 7 % 900)))
'`;
const LEVELS = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];
const FACILITIES: Record<number, string> = { 0: "kern", 1: "user", 3: "daemon", 5: "syslog" };

export const comparison: Comparison = {
  table: "kernel_log",
  async compare(subject, guest) {
    await subject.lab.exec(`echo on > /proc/sys/kernel/printk_devkmsg; printf '${ODD}' > /dev/kmsg`);
    const first = await compareAll(subject, guest);
    assert.ok(first.some((row) => row.facility === "user" && row.message === "lab: café \\ tab\there"));
    // Until it has overflown once.
    if (first[0]?.sequence === 0) {
      assert.ok(first.some((row) => row.device !== null && row.subsystem !== null));
      assert.match(textIn(first[0], "message"), /^Linux version /);
    }
    await subject.lab.exec(FILL);
    const full = await compareAll(subject, guest);
    assert.ok(Number(full[0]?.sequence) > 0, "its oldest records were overwritten");
    return `${first.length} and ${full.length} rows`;
  },
};

async function compareAll(subject: Subject, guest: Guest): Promise<Row[]> {
  const before = parse(await subject.lab.exec(COLLECT));
  const rows = read(guest, "kernel_log");
  const after = parse(await subject.lab.exec(COLLECT));
  assert.ok(before.length > 50);
  const [oldest, newest] = [Number(rows[0]?.sequence), Number(rows.at(-1)?.sequence)];
  const told = after.filter(({ sequence }) => sequence >= oldest && sequence <= newest);
  const known = new Map(rows.map((row) => [Number(row.sequence), row]));
  assert.equal(known.size, rows.length, "each record once");
  assert.ok(told.length >= before.length - 5, `${told.length} of ${before.length}`);
  for (const record of told) {
    const row = known.get(record.sequence);
    assert.ok(row !== undefined, `record ${record.sequence}`);
    assert.equal(FACILITIES[record.priority >> 3], row.facility);
    assert.equal(LEVELS[record.priority & 7], row.level);
    assert.equal(record.microseconds, Math.floor(Number(row.time) / 1000));
    assert.equal(record.continued, row.continued === 1);
    assert.equal(record.text, escaped(textIn(row, "message")), `record ${record.sequence}`);
    assert.equal(record.subsystem, row.subsystem ?? undefined);
    assert.equal(record.device, row.device ?? undefined);
    if (record.caller !== undefined) assert.equal(record.caller, row.caller);
  }
  return rows;
}

/** Priority, sequence, microseconds and flags; then the text; then lines of the dictionary (Documentation/ABI/testing/dev-kmsg). */
function parse(output: string) {
  return output
    .split("\0")
    .slice(0, -1)
    .map((record) => {
      const [head, text, ...lines] = record.replace(/^([^;]*);/, "$1\n").split("\n");
      const [priority, sequence, microseconds, flags, caller] = head!.split(",");
      const of = (key: string) => lines.find((line) => line.startsWith(` ${key}=`))?.slice(key.length + 2);
      return {
        priority: Number(priority),
        sequence: Number(sequence),
        microseconds: Number(microseconds),
        continued: flags === "c",
        caller: caller?.replace("caller=", ""),
        text,
        subsystem: of("SUBSYSTEM"),
        device: of("DEVICE"),
      };
    });
}

/** As the kernel does: bytes that can't be printed, and the backslash. */
function escaped(text: string): string {
  return [...Buffer.from(text)]
    .map((byte) =>
      byte < 0x20 || byte >= 0x7f || byte === 0x5c
        ? `\\x${byte.toString(16).padStart(2, "0")}`
        : String.fromCharCode(byte),
    )
    .join("");
}
