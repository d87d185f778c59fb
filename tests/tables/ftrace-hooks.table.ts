// ftrace_hooks against tracefs' enabled_functions, and the filter of an instance.
import assert from "node:assert/strict";
import { GuestError } from "../../vmi/index.ts";
import { read, textIn } from "../engine/support.ts";
import { type Comparison, NotApplicable } from "./comparison.ts";

const TRACING = "/sys/kernel/tracing";

export const comparison: Comparison = {
  table: "ftrace_hooks",
  async compare(subject, guest) {
    if ((await subject.lab.run(`test -e ${TRACING}/enabled_functions`)).status !== 0) {
      assert.throws(() => read(guest, "ftrace_hooks"), GuestError);
      return new NotApplicable("CONFIG_FUNCTION_TRACER is not set");
    }
    const rows = read(guest, "ftrace_hooks");
    const told = (await subject.lab.exec(`cat ${TRACING}/enabled_functions`)).split("\n");
    // A function, in brackets its module, how many are called, and whether one of them wants registers or sends elsewhere.
    const functions = told
      .map((line) => /^(\S+) (?:\[\S+\] )?\((\d+)\)( R)?/.exec(line))
      .filter((match) => match !== null);
    const expected = functions.map(([, name, count, registers]) => [name, Number(count), registers !== undefined]);
    const seen = new Map<string, [string, number, boolean]>();
    for (const row of rows) {
      const words = textIn(row, "flags").split(" ");
      if (!words.includes("enabled")) continue;
      const names = textIn(row, "functions").split(" ");
      assert.equal(names.length, row.filtered);
      for (const name of names) {
        const [, count, registers] = seen.get(name) ?? [name, 0, false];
        seen.set(name, [name, count + 1, registers || words.includes("save_regs")]);
      }
    }
    assert.deepEqual([...seen.values()].sort(), expected.sort());
    const tracer = rows.find((row) => row.instance === "lab")!;
    const filter = (await subject.lab.exec(`cat ${TRACING}/instances/lab/set_ftrace_filter`)).trim().split("\n");
    assert.equal(tracer.functions, filter.sort().join(" "));
    assert.deepEqual([tracer.symbol, tracer.functions], ["function_trace_call", "vfs_fallocate vfs_mknod"]);
    const probes = rows.find((row) => row.name === "kprobe_ftrace_ops")!;
    assert.equal(probes.symbol, "kprobe_ftrace_handler");
    assert.ok(textIn(probes, "functions").includes("dummy_xmit"));
    return `${rows.length} rows, ${seen.size} functions`;
  },
};
