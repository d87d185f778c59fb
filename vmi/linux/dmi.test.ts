import assert from "node:assert/strict";
import { test } from "node:test";
import { Budget } from "../budget.ts";
import { attach } from "../guest.ts";
import { miniGuest } from "../testing/mini-guest.ts";
import { dmiProcessors } from "./dmi.ts";

test("processors that the firmware tells of, up to the end of its table", () => {
  const { ram } = miniGuest().kernel;
  for (const memory of [ram.mapped(), ram.paged()]) {
    assert.deepEqual(dmiProcessors(attach(memory).kernel, new Budget()), [
      { socket: "CPU 0", type: 3, status: 0x41, maxMhz: 2000 },
      { socket: "CPU 1", type: 3, status: 0x40, maxMhz: 0 },
    ]);
  }
});

test("a table that is nowhere, too long, or whose structures have no length", () => {
  const { kernel } = miniGuest();
  const guest = attach(kernel.ram.mapped());
  const [base, length] = guest.symbols(["dmi_base", "dmi_len"]).map((symbol) => symbol!.address) as [bigint, bigint];
  const gpa = Number(kernel.readPointer(base));
  kernel.ram.bytes[gpa + 1] = 0;
  assert.deepEqual(dmiProcessors(guest.kernel, new Budget()), []);
  kernel.writeInteger(length, 0xffff_ffff, 4);
  assert.equal(dmiProcessors(guest.kernel, new Budget()), undefined);
  kernel.writeInteger(length, 64, 4);
  kernel.writeInteger(base, 0xf_0000_0000n, 8);
  assert.equal(dmiProcessors(guest.kernel, new Budget()), undefined);
});
