// kprobes against debugfs' list of them, and tracefs' kprobe_events.
import assert from "node:assert/strict";
import { read, textIn } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";

export const comparison: Comparison = {
  table: "kprobes",
  async compare(subject, guest) {
    const list = await subject.lab.exec("cat /sys/kernel/debug/kprobes/list");
    const rows = read(guest, "kprobes");
    const seen = rows.map((row) => {
      const { type, symbol, offset } = row;
      const marks = [
        row.gone ? "[GONE]" : "",
        row.disabled ? "[DISABLED]" : "",
        row.optimized ? "[OPTIMIZED]" : "",
        row.ftrace ? "[FTRACE]" : "",
      ].join("");
      const place = `${symbol}+0x${Number(offset).toString(16)}`;
      return [textIn(row, "address").slice(2), type, place, row.module ?? "", marks]
        .join(" ")
        .replace(/ +/g, " ")
        .trim();
    });
    const told = list
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => line.replace(/ +/g, " ").trim());
    const shown = seen.map((line) => line.replace(/ +/g, " "));
    assert.deepEqual(shown.sort(), told.sort());

    const events = await subject.lab.exec("cat /sys/kernel/tracing/kprobe_events");
    const defined = events.split("\n").filter((line) => line !== "");
    const names = defined
      .map((line) => /^([pr])\d*:(\S+)\/(\S+)/.exec(line)!)
      .map(([, , group, name]) => `${group}:${name}`);
    const own = rows.filter((row) => row.event !== null);
    assert.deepEqual(own.map((row) => row.event).sort(), names.sort());
    const byEvent = new Map(own.map((row) => [row.event, row]));
    const entry = byEvent.get("lab:entry")!;
    const back = byEvent.get("lab:return")!;
    assert.deepEqual([entry.pre_handler_symbol, entry.return_handler], ["kprobe_dispatcher", null]);
    assert.deepEqual(
      [back.pre_handler_symbol, back.return_handler_symbol],
      ["pre_handler_kretprobe", "kretprobe_dispatcher"],
    );
    assert.deepEqual([entry.aggregated, back.aggregated, entry.address], [1, 1, back.address]);
    assert.equal(byEvent.get("lab:module")!.module, "dummy");
    assert.equal(byEvent.get("lab:off")!.disabled, 1);
    assert.ok(byEvent.has("lab:middle"));
    return `${rows.length} rows`;
  },
};
