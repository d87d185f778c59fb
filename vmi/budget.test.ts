import assert from "node:assert/strict";
import { test } from "node:test";
import { Budget } from "./budget.ts";

/** Steps until a budget throws, spent so many at a time. */
function spent(budget: Budget, each: number, limit = 1_000_000): number {
  for (let steps = 0; steps < limit; steps += each) {
    try {
      budget.spend(each);
    } catch (error) {
      assert.equal((error as Error).name, "GuestError");
      return steps + each;
    }
  }
  return Number.POSITIVE_INFINITY;
}

test("steps run out, within a look at the clock of what was given", () => {
  for (const steps of [1, 4096, 10_000, 100_000]) {
    for (const each of [1, 100, 5000]) {
      const used = spent(new Budget(60_000, steps), each);
      assert.ok(used >= steps && used <= steps + 4096 + each, `${used} of ${steps}, ${each} at a time`);
    }
  }
});

test("which limit it was shows", () => {
  const spend = (budget: Budget) => () => budget.spend(1 << 20);
  assert.throws(spend(new Budget(60_000, 100)), { kind: "over-budget" });
  assert.throws(spend(new Budget(-1)), { kind: "deadline" });
  assert.throws(spend(new Budget(-1, 100)), { kind: "over-budget" });
});

test("a spent budget stays spent, and one that is not does not throw", () => {
  const budget = new Budget(60_000, 100);
  for (let i = 0; i < 3; i++) assert.throws(() => budget.spend(5000), { kind: "over-budget" });
  assert.equal(spent(new Budget(60_000, 10_000_000), 1000), Number.POSITIVE_INFINITY);
});

test("the deadline lies as far ahead as was asked", () => {
  const before = performance.now();
  const { deadline } = new Budget(5000);
  assert.ok(deadline >= before + 5000 && deadline <= performance.now() + 5000);
});

test("a part has steps of its own, and the time of the whole", () => {
  const budget = new Budget(-1, 100_000);
  assert.throws(() => budget.part(10_000).spend(5000), { kind: "deadline" });
  const part = new Budget(60_000, 100_000).part(5000);
  assert.throws(() => part.spend(6000), { kind: "over-budget" });
  assert.equal(part.left, 0);
  assert.equal(budget.left, 100_000);
  budget.spend(100);
  assert.equal(budget.left, 99_900);
});
