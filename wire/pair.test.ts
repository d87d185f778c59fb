import assert from "node:assert/strict";
import { test } from "node:test";
import { connectedPair } from "./pair.ts";

test("a writer may use its buffer again while the reader has not looked yet", () => {
  const [near, far] = connectedPair();
  for (const [from, to] of [
    [near, far],
    [far, near],
  ] as const) {
    const buffer = Buffer.from("first");
    from.write(buffer);
    buffer.fill("x");
    assert.equal(to.read().toString(), "first");
  }
});
