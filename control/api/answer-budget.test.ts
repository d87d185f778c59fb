import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { createAnswerBudget } from "./answer-budget.ts";

const never = new AbortController().signal;

/** What has been granted, by name. */
function budgetOf(perUser: number, total: number) {
  const budget = createAnswerBudget({ perUser, total });
  const granted = new Map<string, () => void>();
  const take = (name: string, user: string, bytes: number, signal = never) =>
    budget.take(user, bytes, signal, 60_000).then((giveBack) => granted.set(name, giveBack));
  const settled = async () => {
    await new Promise(setImmediate);
    return [...granted.keys()];
  };
  return { take, settled, giveBack: (name: string) => granted.get(name)!(), budget };
}

test("a user's answers wait for those before them, and hold up nobody else's", async () => {
  const { take, settled, giveBack } = budgetOf(100, 1000);
  for (const name of ["a", "b", "c", "d"]) void take(name, "ann", 50);
  void take("e", "ben", 50);
  assert.deepEqual(await settled(), ["a", "b", "e"]);
  giveBack("a");
  assert.deepEqual(await settled(), ["a", "b", "e", "c"]);
  giveBack("b");
  giveBack("c");
  assert.deepEqual(await settled(), ["a", "b", "e", "c", "d"]);
});

test("one answer is granted to who holds none, however large, and however much others hold", async () => {
  const { take, settled, giveBack } = budgetOf(100, 150);
  void take("large", "ann", 400);
  void take("another", "ann", 1);
  void take("first", "ben", 10);
  void take("second", "ben", 10);
  assert.deepEqual(await settled(), ["large", "first"]);
  giveBack("large");
  assert.deepEqual(await settled(), ["large", "first", "another", "second"]);
});

test("who leaves or waits for too long gets nothing, and takes nothing from those behind", async () => {
  const { take, settled, giveBack, budget } = budgetOf(100, 100);
  void take("a", "ann", 100);
  const leaving = new AbortController();
  const left = take("b", "ann", 100, leaving.signal);
  const late = budget.take("ann", 100, never, 5);
  void take("c", "ann", 60);
  leaving.abort(new ConnectError("gone", Code.Canceled));
  await assert.rejects(left, { code: Code.Canceled, rawMessage: "gone" });
  await assert.rejects(late, { code: Code.DeadlineExceeded });
  await assert.rejects(take("d", "ann", 60, AbortSignal.abort(new ConnectError("gone", Code.Canceled))), /gone/);
  giveBack("a");
  assert.deepEqual(await settled(), ["a", "c"]);
});
