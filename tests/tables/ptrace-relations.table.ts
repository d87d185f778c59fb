// ptrace_relations against TracerPid of every thread.
import assert from "node:assert/strict";
import { read } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";

const PTRACED = 1;
const SEIZED = 0x1_0000;
const OPTIONS = (0x8 | 0x80 | 0x10_0000) << 3;

export const comparison: Comparison = {
  table: "ptrace_relations",
  async compare(subject, guest) {
    const told = (await subject.lab.exec("grep -H ^TracerPid: /proc/[0-9]*/task/[0-9]*/status 2>/dev/null || true"))
      .trimEnd()
      .split("\n")
      .map((line) => /^\/proc\/(\d+)\/task\/(\d+)\/status:TracerPid:\t(\d+)$/.exec(line)!.slice(1).map(Number))
      .filter(([, , tracer]) => tracer !== 0);
    const rows = read(guest, "ptrace_relations");
    const { processes } = await subject.lab.truth();
    const order = (a: readonly unknown[], b: readonly unknown[]) => Number(a[1]) - Number(b[1]);
    assert.deepEqual(rows.map((row) => [row.pid, row.tid, row.tracer_tid]).sort(order), told.sort(order));
    for (const row of rows) {
      assert.equal(row.name, processes.get(Number(row.pid))?.comm);
      assert.equal(row.tracer_name, processes.get(Number(row.tracer_pid))?.comm);
    }
    const byName = new Map(rows.map((row) => [row.name, row]));
    assert.equal(byName.get("sys-traced")?.flags, PTRACED);
    assert.equal(byName.get("sys-seized")?.flags, PTRACED | SEIZED | OPTIONS);
    assert.equal(byName.get("sys-seized")?.flag_names, "PTRACED TRACECLONE TRACESECCOMP SEIZED EXITKILL");
    const { pid } = byName.get("sys-traced")!;
    const values = [String(pid)];
    assert.deepEqual(
      read(guest, "ptrace_relations", { where: [{ column: "pid", values }] }),
      rows.filter((row) => row.pid === pid),
    );
    return `${rows.length} rows`;
  },
};
