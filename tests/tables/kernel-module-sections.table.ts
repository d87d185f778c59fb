// kernel_module_sections against /sys/module/*/sections/*.
import assert from "node:assert/strict";
import { read, textIn } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";

/** Prints "MODULE/sections/NAME ADDRESS" a section. */
const script = `
import os
os.chdir("/sys/module")
for module in os.listdir("."):
    folder = module + "/sections"
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        with open(folder + "/" + name) as file:
            print(folder + "/" + name, file.read().strip())
`;

export const comparison: Comparison = {
  table: "kernel_module_sections",
  async compare(subject, guest) {
    const truth = (await subject.lab.exec(`python3 -I -S -c '${script}'`)).trimEnd().split("\n");
    const rows = read(guest, "kernel_module_sections");
    const lines = rows.map((row) => {
      const address = textIn(row, "address");
      return `${textIn(row, "module")}/sections/${textIn(row, "name")} ${address}`;
    });
    assert.deepEqual(lines.sort(), truth.sort());
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
