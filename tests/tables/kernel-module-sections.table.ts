// kernel_module_sections against /sys/module/*/sections/*.
import assert from "node:assert/strict";
import { read, textIn } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";

const script =
  'cd /sys/module; for file in */sections/* */sections/.*; do [ -f $file ] && echo "$file $(cat $file)"; done';

export const comparison: Comparison = {
  table: "kernel_module_sections",
  async compare(subject, guest) {
    const truth = (await subject.lab.exec(script)).trimEnd().split("\n");
    const rows = read(guest, "kernel_module_sections");
    const lines = rows.map((row) => {
      const address = textIn(row, "address");
      return `${textIn(row, "module")}/sections/${textIn(row, "name")} ${address}`;
    });
    assert.deepEqual(lines.sort(), [...new Set(truth)].sort());
    const text = rows.filter(({ name }) => name === ".text");
    assert.ok(text.length > 5);
    const modules = new Map(read(guest, "kernel_modules").map((row) => [row.name, row]));
    for (const { module, address, size } of text) {
      const { address: start, text_size } = modules.get(module!)!;
      const behind = Number(BigInt(address as string) - BigInt(start as string));
      assert.ok(behind >= 0 && behind + (size as number) <= (text_size as number), `${module}: .text of ${size} bytes`);
    }
    const one = read(guest, "kernel_module_sections", { where: [{ column: "module", values: ["loop"] }] });
    assert.deepEqual(
      one,
      rows.filter(({ module }) => module === "loop"),
    );
    return `${rows.length} rows`;
  },
};
