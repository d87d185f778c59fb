import assert from "node:assert/strict";
import { test } from "node:test";
import { attach } from "../guest.ts";
import { miniGuest } from "../testing/mini-guest.ts";
import { rowsOf } from "../testing/rows.ts";

test("parameters have the value of their table's variable, or of their function's own", () => {
  const { kernel } = miniGuest();
  const columns = ["name", "value", "type"];
  for (const guest of [attach(kernel.ram.mapped()), attach(kernel.ram.paged())]) {
    assert.deepEqual(rowsOf(guest.table("kernel_parameters", { columns })), [
      { name: "kernel.answer", value: "42", type: "int" },
      { name: "kernel.name", value: "mini", type: "string" },
      { name: "kernel.sysrq", value: "438", type: "int" },
      { name: "kernel.tainted", value: "4097", type: "long" },
    ]);
  }
});

test("keys that are always enabled are so whatever the mask is", () => {
  const { kernel } = miniGuest();
  kernel.writeInteger(kernel.symbol("sysrq_always_enabled"), 1, 1);
  const guest = attach(kernel.ram.mapped());
  const where = [{ column: "name", values: ["kernel.sysrq"] }];
  const [row] = rowsOf(guest.table("kernel_parameters", { where }));
  assert.deepEqual([row!.value, row!.type], ["1", "bool"]);
});
