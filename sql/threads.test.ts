import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { Code } from "@connectrpc/connect";
import { runSql } from "./run.ts";
import { type FairTimes, takeThread } from "./threads.ts";

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

/** Takes a thread and gives it back when it is told to. */
async function takeUntilEnded(user: string, fair: FairTimes, timeoutMs = 20_000) {
  const thread = await takeThread(user, timeoutMs, undefined, fair);
  thread.signal.addEventListener("abort", () => thread.release(false));
  return thread;
}

const never = { oneOfMany: 1e8, only: 1e8 };

test("who has no thread gets one of those who have several, from the one that has run longest", async () => {
  const fair = { oneOfMany: 1, only: 1e8 };
  const [alone, first, second] = [
    await takeUntilEnded("ann", never),
    await takeUntilEnded("eve", never),
    await takeUntilEnded("eve", never),
  ];
  const mallory = await takeUntilEnded("mallory", never);
  const victim = await takeUntilEnded("vic", fair);
  assert.equal(first.signal.aborted, true);
  assert.match(String(first.signal.reason), /ended after \d+ s, since other users wait for theirs/);
  assert.deepEqual(
    [alone, second, mallory].map(({ signal }) => signal.aborted),
    [false, false, false],
  );
  for (const thread of [alone, second, mallory, victim]) thread.release(false);
});

test("four users with endless statements do not keep a fifth from his", async () => {
  const four = await Promise.all(["a", "b", "c", "d"].map((user) => takeUntilEnded(user, never)));
  const victim = await takeUntilEnded("vic", { oneOfMany: 1, only: 1 });
  assert.deepEqual(
    four.map(({ signal }) => signal.aborted),
    [true, false, false, false],
  );
  for (const thread of [...four, victim]) thread.release(false);
});

test("nothing is ended for a user who has a thread already, and turns go round", async () => {
  const fair = { oneOfMany: 0, only: 0 };
  const four = await Promise.all(["a", "a", "b", "b"].map((user) => takeUntilEnded(user, never)));
  const order: string[] = [];
  const wait = (user: string, times: FairTimes) =>
    takeUntilEnded(user, times).then((thread) => {
      order.push(user);
      return thread;
    });
  const more = [wait("a", fair), wait("a", fair), wait("b", fair)];
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.deepEqual(order, []);
  more.push(wait("c", never));
  four[0]!.release(false);
  await more[3];
  assert.deepEqual(order, ["c"]);
  four[1]!.release(false);
  await more[0];
  assert.deepEqual(order, ["c", "a"]);
  for (const thread of four) thread.release(false);
  for (const thread of await Promise.all(more)) thread.release(false);
});

test("a statement that is ended for others says so, whoever reads its answer", async () => {
  const endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT count(*) FROM c";
  const answer = runSql(endless, { tables: [], vms: [], async *read() {}, user: "eve", limits: { timeoutMs: 60_000 } });
  const failed = assert.rejects(answer.next(), { code: Code.ResourceExhausted });
  const others = await Promise.all(["a", "b", "c"].map((user) => takeUntilEnded(user, never)));
  const victim = await takeUntilEnded("vic", { oneOfMany: 1, only: 1 });
  await failed;
  for (const thread of [...others, victim]) thread.release(false);
});
