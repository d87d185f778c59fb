// findings of a guest whose workload has what honest programs have: programs that are deleted, and what hooks the kernel by its
// own means, against /proc. What intruders do is found in tests/checks.
import assert from "node:assert/strict";
import { checks } from "../../vmi/index.ts";
import { read } from "../engine/support.ts";
import { findByArgument } from "./by-process.ts";
import type { Comparison } from "./comparison.ts";

export const comparison: Comparison = {
  table: "findings",
  async compare(subject, guest) {
    const rows = read(guest, "findings");
    const names = new Set(checks.map(({ name }) => name));
    for (const row of rows) {
      assert.ok(names.has(row.check_name as string), `${row.check_name} is no check`);
      assert.match(row.severity as string, /^(?:high|medium|low|info)$/, JSON.stringify(row));
    }
    const of = (check: string) => rows.filter(({ check_name }) => check_name === check);

    const { processes } = await subject.lab.truth();
    const deleted = [...processes.values()].filter(({ exe }) => exe?.endsWith(" (deleted)"));
    assert.ok(deleted.length > 0);
    assert.deepEqual(
      of("deleted-executable").map(({ pid }) => pid),
      deleted.map(({ pid }) => pid),
    );

    // Of a process too whose first thread has ended, and has none of its memory any more.
    const headless = findByArgument([...processes.values()], "headless argument").pid;
    for (const check of ["deleted-executable", "injected-memory"])
      assert.ok(
        of(check).some(({ pid }) => pid === headless),
        check,
      );

    // Of an overlay, by the path that processes see; what differs is told by the file of the layer below.
    const changed = of("injected-memory").filter(({ what }) => String(what).includes(" /mnt/overlay/library.so "));
    assert.deepEqual(
      changed.map(({ evidence }) => /4 bytes of 1 pages differ/.test(String(evidence))),
      [true],
      "library.so",
    );
    assert.ok(!of("false-name").some(({ what, evidence }) => `${what} ${evidence}`.includes("/mnt/overlay/")));

    const modules = (await subject.lab.exec("cut -d ' ' -f 1 /proc/modules")).trimEnd().split("\n");
    const listed = of("inventory").flatMap(({ what }) => /^module (\S+) is loaded$/.exec(what as string)?.[1] ?? []);
    assert.deepEqual(listed.sort(), modules.sort());
    // Tracing that honest programs do is told, and is no alarm.
    const tracing = of("ebpf-programs");
    assert.notEqual(tracing.length, 0);
    assert.deepEqual([...new Set(tracing.map(({ severity }) => severity))], ["info"]);
    const alarms = rows.filter(({ severity }) => severity !== "info");
    return `${rows.length} findings, ${alarms.length} of them above info: ${[...new Set(alarms.map(({ check_name }) => check_name))].join(", ")}`;
  },
};
