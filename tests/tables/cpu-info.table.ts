// cpu_info against /proc/cpuinfo, every line of it that tells what a column does.
import assert from "node:assert/strict";
import type { Guest } from "../../vmi/index.ts";
import { read, type Subject } from "../engine/support.ts";
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
    const packages = await packagesOf(subject, guest);
    for (const row of rows) {
      const { processor_type, cpu_status, max_clock_speed, socket_designation } = row;
      const absent = { absent: "unsupported" };
      const expected = packages[row.package as number] ?? [absent, absent, absent, absent];
      assert.deepEqual([processor_type, cpu_status, max_clock_speed, socket_designation], expected);
    }
    assert.ok(String(rows[0]?.flags).split(" ").includes("lm"));
    return `${rows.length} rows, ${packages.length} packages by the firmware`;
  },
};

/** First address behind what may be ROM, which is no memory of the guest's that could be read. */
const ROM_END = 0x10_0000n;

/** Packages as the firmware tells of them, where its table is in memory: SeaBIOS has it in ROM. */
async function packagesOf(subject: Subject, guest: Guest): Promise<(number | string)[][]> {
  const [place] = guest.symbols(["dmi_base"]);
  const address = place && guest.read([{ space: "kernel", address: place.address, length: 8 }])[0]!.bytes;
  if (address === undefined || Buffer.from(address).readBigUInt64LE() < ROM_END) return [];
  const path = "/sys/firmware/dmi/tables/DMI";
  const table = (await subject.lab.readFiles([path])).get(path);
  return table?.kind === "file" ? processorsOf(table.data) : [];
}

/** Processors of an SMBIOS table: type, status, highest rate, socket. */
function processorsOf(table: Buffer): (number | string)[][] {
  const found: (number | string)[][] = [];
  for (let at = 0; at + 4 < table.length && table[at] !== 127; ) {
    const strings = at + table[at + 1]!;
    const end = table.indexOf("\0\0", strings, "latin1");
    const names = table.toString("latin1", strings, end).split("\0");
    if (table[at] === 4)
      found.push([table[at + 5]!, table[at + 24]!, table.readUInt16LE(at + 20), names[table[at + 4]! - 1]!.trimEnd()]);
    at = end + 2;
  }
  return found;
}
