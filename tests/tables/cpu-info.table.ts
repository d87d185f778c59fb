// cpu_info against /proc/cpuinfo, every line of it that tells what a column does.
import assert from "node:assert/strict";
import { read } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";

/** Ticks a second of the kernels of the lab (CONFIG_HZ). */
const HZ = 250;

export const comparison: Comparison = {
  table: "cpu_info",
  async compare(subject, guest) {
    const rows = read(guest, "cpu_info");
    const told = (await subject.lab.exec("cat /proc/cpuinfo"))
      .trim()
      .split("\n\n")
      .map((cpu) => new Map(cpu.split("\n").map((line) => line.split(/\s*: ?/, 2) as [string, string])));
    assert.equal(rows.length, told.length);
    assert.equal(rows.length, subject.lab.spec.vcpus);
    rows.forEach((row, i) => {
      const cpu = told[i]!;
      assert.equal(row.device_id, `CPU${cpu.get("processor")}`);
      assert.equal(row.online, 1);
      assert.equal(row.address_width, 64);
      assert.equal(row.model, cpu.get("model name"));
      assert.equal(row.manufacturer, cpu.get("vendor_id"));
      assert.equal(row.flags, cpu.get("flags"));
      assert.equal(row.bugs, cpu.get("bugs")?.trim());
      const [physical, virtual] = cpu.get("address sizes")!.match(/\d+/g)!.map(Number);
      assert.deepEqual([row.physical_bits, row.virtual_bits], [physical, virtual]);
      for (const [column, line] of [
        ["cpu", "processor"],
        ["family", "cpu family"],
        ["model_number", "model"],
        ["stepping", "stepping"],
        ["microcode", "microcode"],
        ["package", "physical id"],
        ["core", "core id"],
        ["apic", "apicid"],
        ["number_of_cores", "cpu cores"],
        ["logical_processors", "siblings"],
      ] as const) {
        if (cpu.has(line)) assert.equal(row[column], Number(cpu.get(line)), line);
      }
      if (cpu.has("cache size")) assert.equal(`${row.cache_size} KB`, cpu.get("cache size"));
      assert.equal(row.current_clock_speed, Math.round(Number(cpu.get("cpu MHz"))));
      assert.ok(Math.abs((Number(row.loops_per_jiffy) * HZ) / 500_000 - Number(cpu.get("bogomips"))) < 0.02);
    });
    assert.ok(String(rows[0]?.flags).split(" ").includes("lm"));
    return `${rows.length} rows`;
  },
};
