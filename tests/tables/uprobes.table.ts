// uprobes against tracefs' uprobe_events and stat of the file.
import assert from "node:assert/strict";
import { read } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";

export const comparison: Comparison = {
  table: "uprobes",
  async compare(subject, guest) {
    const rows = read(guest, "uprobes");
    const events = (await subject.lab.exec("cat /sys/kernel/tracing/uprobe_events")).trim().split("\n");
    const places = events.map((event) => /^p:\S+ (\/\S+):0x([0-9a-f]+)/.exec(event)!);
    const told = [];
    for (const [, path, offset] of places) {
      const [inode, device] = (await subject.lab.exec(`stat -c '%i %d' ${path}`)).trim().split(" ").map(Number);
      told.push([path, inode, `${device! >>> 8}:${device! & 0xff}`, Number.parseInt(offset!, 16)]);
    }
    assert.deepEqual(
      rows.map((row) => [row.path, row.inode, row.device, row.offset]),
      told,
    );
    assert.deepEqual(
      rows.map((row) => [row.consumers, row.counter_offset, row.handlers]),
      [[1, null, "uprobe_dispatcher"]],
    );
    return `${rows.length} rows`;
  },
};
