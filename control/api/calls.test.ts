import assert from "node:assert/strict";
import { test } from "node:test";
import { createCalls, defaultLimits } from "./calls.ts";

const credential = { kind: "missing" } as const;
const principal = {
  account: { name: "ann", operator: false, memberships: new Map() },
  tokenId: "0123456789abcdef",
  tokenExpiresMs: 0,
} as unknown as Parameters<ReturnType<typeof createCalls>["open"]>[1];

function timeoutOf(action: "table" | "stream", timeoutMs: number | undefined): number {
  const context = {
    principal: { credential },
    signal: new AbortController().signal,
    timeoutMs,
    whenAnswered: (done: () => void) => done(),
  };
  using call = createCalls(defaultLimits).open(context, principal);
  call.begin(action);
  return call.timeoutMs;
}

test("a stream of memory lasts for hours, every other call as long as the limits say", () => {
  const hours = 6 * 3_600_000;
  assert.equal(timeoutOf("table", undefined), 30_000);
  assert.equal(timeoutOf("table", hours), 300_000);
  assert.equal(timeoutOf("stream", undefined), hours);
  assert.equal(timeoutOf("stream", 1000), 1000);
  assert.equal(timeoutOf("stream", 2 * hours), hours);
});
