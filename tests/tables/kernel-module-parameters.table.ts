// kernel_module_parameters against /sys/module/*/parameters/*.
import assert from "node:assert/strict";
import { read, textIn } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";

/** Prints "PERMISSIONS PATH =VALUE" a file, its line end left out, and "!" for a value that can't be read. */
const script = `
import os
for module in os.listdir("/sys/module"):
    folder = "/sys/module/" + module + "/parameters"
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        path = folder + "/" + name
        try:
            with open(path, errors="surrogateescape") as file:
                value = "=" + file.read().rstrip(chr(10)).replace(chr(10), "~")
        except OSError:
            value = "!"
        print("%o" % (os.stat(path).st_mode & 0o7777), path, value)
`;

export const comparison: Comparison = {
  table: "kernel_module_parameters",
  async compare(subject, guest) {
    const truth = new Map<string, { mode: string; value: string | undefined }>();
    for (const line of (await subject.lab.exec(`python3 -I -S -c '${script}'`)).trimEnd().split("\n")) {
      const [, mode, path, value] = /^(\d+) \/sys\/module\/(\S+) (.*)$/s.exec(line)!;
      truth.set(path!.replace("/parameters/", "."), {
        mode: mode!.padStart(4, "0"),
        value: value === "!" ? undefined : value!.slice(1),
      });
    }
    const rows = read(guest, "kernel_module_parameters");
    const shown = rows.filter(({ permissions }) => permissions !== "0000");
    const keyOf = (row: (typeof rows)[number]) => `${textIn(row, "module")}.${textIn(row, "name")}`;
    assert.deepEqual(shown.map(keyOf).sort(), [...truth.keys()].sort());
    let values = 0;
    for (const row of shown) {
      const key = keyOf(row);
      const { mode, value } = truth.get(key)!;
      assert.equal(row.permissions, mode, key);
      if (row.value === null) assert.equal(row.type, null, key);
      else if (value !== undefined) {
        assert.equal(row.value, value, `${key}, ${row.type}`);
        values++;
      }
    }
    const types = new Set(rows.map(({ type }) => type));
    for (const type of ["int", "uint", "bool", "charp", "ulong"]) assert.ok(types.has(type), `no parameter is ${type}`);
    assert.ok(shown.some(({ built_in }) => built_in === 0) && shown.some(({ built_in }) => built_in === 1));
    assert.ok(values > shown.length * 0.82, `only ${values} values of ${shown.length}`);
    const some = read(guest, "kernel_module_parameters", { where: [{ column: "module", values: ["loop", "kernel"] }] });
    assert.deepEqual(
      some,
      rows.filter(({ module }) => module === "loop" || module === "kernel"),
    );
    return `${shown.length} of ${rows.length} rows, ${values} values`;
  },
};
