import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { takeThread } from "./threads.ts";

test("a thread that has died is not given to the next statement", async () => {
  const first = await takeThread(undefined);
  const died = once(first.worker, "exit");
  await first.worker.terminate();
  await died;
  first.release(true);
  const second = await takeThread(undefined);
  assert.ok(second.worker.threadId >= 0);
  second.release(true);
  const third = await takeThread(undefined);
  assert.equal(third.worker, second.worker);
  third.release(false);
});
