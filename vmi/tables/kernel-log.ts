import { GuestError } from "../errors.ts";
import { type LogHead, walkLog } from "../linux/printk.ts";
import { CELL } from "./columns.ts";
import { isWanted, isWantedNumber } from "./keys.ts";
import { defineTable, integer, text } from "./table.ts";

const FACILITIES = [
  "kern user mail daemon auth syslog lpr news uucp cron authpriv ftp",
  "ntp audit alert clock local0 local1 local2 local3 local4 local5 local6 local7",
].flatMap((line) => line.split(" "));
const LEVELS = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];
const facilityOf = (number: number) => FACILITIES[number] ?? String(number);
/** `caller_id` of a record that was not written by a task. */
const CPU = 0x8000_0000;

/** One row a record of the kernel's log: /dev/kmsg, dmesg. */
export const kernelLog = defineTable({
  name: "kernel_log",
  description: "The kernel's log (dmesg), oldest record first, whatever dmesg_restrict says",
  columns: {
    sequence: integer("Number of the record since boot", { key: true }),
    time: integer("Nanoseconds since about when the kernel started, by the clock of its log"),
    facility: text("Who wrote it: kern, user, daemon and so on (syslog(3))", { key: true }),
    level: text("emerg, alert, crit, err, warning, notice, info or debug", { key: true }),
    caller: text(
      "T and the thread's id, or C and the CPU where no thread wrote it; shown by dmesg with CONFIG_PRINTK_CALLER only",
    ),
    message: text("The text"),
    subsystem: text("Subsystem of the device that it is about"),
    device: text("The device: b or c and its number, n and the interface's index, + and subsystem:name"),
    continued: integer("1 when the writer meant to go on with the line"),
  },
  cost: "walk",
  reads: [
    "prb, printk_ringbuffer, prb_desc, printk_info (from 5.10: 896fbe20b4e2)",
    "log_buf, log_first_idx, log_next_idx, log_first_seq, printk_log (to 5.9)",
  ],
  examples: [
    "SELECT time / 1e9 AS seconds, level, message FROM kernel_log ORDER BY sequence DESC LIMIT 20",
    "SELECT message FROM kernel_log WHERE level IN ('emerg', 'alert', 'crit', 'err')",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const sequences = context.keys("sequence");
    const facilities = context.textKeys("facility");
    const levels = context.textKeys("level");
    const wanted = ({ sequence, facility, level }: LogHead) =>
      isWantedNumber(sequences, sequence) &&
      isWanted(facilities, facilityOf(facility)) &&
      isWanted(levels, LEVELS[level] ?? "");
    const walk = walkLog(kernel, wanted, budget, (record) => {
      out.sequence?.pushOr(record.sequence, CELL.unreadable);
      out.time?.pushOr(record.time, CELL.unreadable);
      out.facility?.push(facilityOf(record.facility));
      out.level?.push(LEVELS[record.level] ?? "");
      if (record.caller === undefined) out.caller?.absent(CELL.unsupported);
      else out.caller?.push(record.caller >= CPU ? `C${record.caller - CPU}` : `T${record.caller}`);
      out.message?.pushBytes(record.text);
      if (record.subsystem.length === 0) out.subsystem?.absent(CELL.notApplicable);
      else out.subsystem?.pushBytes(record.subsystem);
      if (record.device.length === 0) out.device?.absent(CELL.notApplicable);
      else out.device?.pushBytes(record.device);
      out.continued?.push(record.continued ? 1 : 0);
      return context.row();
    });
    if (walk === undefined) {
      throw new GuestError("unsupported-kernel", `kernel ${kernel.release}: its log can't be found`);
    }
    context.retried(walk.torn);
    if (!walk.complete) context.incomplete("part of the log could not be read");
  },
});
