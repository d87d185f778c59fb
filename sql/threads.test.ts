import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { takeThread } from "./threads.ts";

test("a thread that has died is not given to the next statement", async () => {
  const first = await takeThread("", 1000);
  const died = once(first.worker, "exit");
  await first.worker.terminate();
  await died;
  first.release(true);
  const second = await takeThread("", 1000);
  assert.ok(second.worker.threadId >= 0);
  second.release(true);
  const third = await takeThread("", 1000);
  assert.equal(third.worker, second.worker);
  third.release(false);
});

test("a user has two threads, and the others do not wait for his third statement", async () => {
  const started = await Promise.all([takeThread("eve", 5000), takeThread("eve", 5000)]);
  let third = false;
  const waiting = takeThread("eve", 5000).then((thread) => {
    third = true;
    return thread;
  });
  const leaving = new AbortController();
  const gone = takeThread("eve", 5000, leaving.signal);
  leaving.abort(new Error("gone"));
  await assert.rejects(gone, /gone/);
  await assert.rejects(takeThread("eve", 30), /other statements have taken the 0\.03 s of this one: try again later/);
  const other = await takeThread("ann", 5000);
  assert.equal(third, false);
  other.release(true);
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(third, false);
  for (const thread of started) thread.release(true);
  (await waiting).release(false);
});
