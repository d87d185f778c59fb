import assert from "node:assert/strict";
import { test } from "node:test";
import { Budget } from "../budget.ts";
import { gvaOf } from "../bytes/address.ts";
import { attach } from "../guest.ts";
import { miniGuest } from "../testing/mini-guest.ts";
import { follow } from "./follow.ts";
import { halvesOf } from "./mm.ts";
import { taskStruct } from "./task-struct.ts";

for (const kind of ["mapped", "paged"] as const) {
  const { kernel: mini, init } = miniGuest();
  const { kernel } = attach(mini.ram[kind]());
  const { mm } = kernel.layout(taskStruct);
  const task = halvesOf(init.task.va);
  const first = init.mm!.va;

  /** Follows the pointer to the mm while the guest gives it one value after the other, at each reading. */
  function followed(start: bigint, meanwhile: readonly bigint[], budget = new Budget()) {
    init.task.set("mm", start);
    kernel.dropCaches();
    const seen: bigint[] = [];
    const found = follow(kernel, task, mm, budget, (at) => {
      seen.push(gvaOf(at.hi, at.lo));
      const next = meanwhile[seen.length - 1];
      if (next !== undefined) init.task.set("mm", next);
      return seen.length;
    });
    return { found, seen };
  }

  test(`${kind}: a pointer that stays is followed once`, () => {
    assert.deepEqual(followed(first, []), { found: { value: 1 }, seen: [first] });
  });

  test(`${kind}: null, and what can't be read`, () => {
    assert.deepEqual(followed(0n, []), { found: "null", seen: [] });
    const missing = halvesOf(0xffff_c900_0000_0000n);
    assert.equal(
      follow(kernel, missing, mm, new Budget(), () => assert.fail("there is nothing to read")),
      "unreadable",
    );
  });

  test(`${kind}: a pointer that changes while it is followed is followed anew`, () => {
    assert.deepEqual(followed(first, [first + 8n]), { found: { value: 2 }, seen: [first, first + 8n] });
    assert.deepEqual(followed(first, [0n]), { found: "null", seen: [first] }, "given up meanwhile");
  });

  test(`${kind}: one that never stays the same is torn`, () => {
    const changes = Array.from({ length: 10 }, (_, i) => first + BigInt(8 * (i + 1)));
    const { found, seen } = followed(first, changes);
    assert.equal(found, "torn");
    assert.ok(seen.length > 1 && seen.length < 10);
  });

  test(`${kind}: following spends from the budget`, () => {
    const budget = new Budget(60_000, 100);
    assert.throws(
      () => {
        for (let i = 0; i < 10_000; i++) followed(first, [], budget);
      },
      { kind: "over-budget" },
    );
  });
}
