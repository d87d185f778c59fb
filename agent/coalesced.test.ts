import assert from "node:assert/strict";
import { test } from "node:test";
import { coalesced } from "./coalesced.ts";

test("calls while it runs have one more run together, which begins afterwards", async () => {
  const runs: PromiseWithResolvers<void>[] = [];
  const run = coalesced(() => {
    runs.push(Promise.withResolvers<void>());
    return runs.at(-1)!.promise;
  });
  const first = run();
  const others = [run(), run(), run()];
  assert.equal(runs.length, 1);
  runs[0]!.resolve();
  await first;
  await new Promise(setImmediate);
  assert.equal(runs.length, 2);
  runs[1]!.resolve();
  await Promise.all(others);
  const failing = run();
  const behind = run();
  runs[2]!.reject(new Error("no monitor"));
  await assert.rejects(failing, /no monitor/);
  await new Promise(setImmediate);
  runs[3]!.resolve();
  await behind;
  assert.equal(runs.length, 4);
});
