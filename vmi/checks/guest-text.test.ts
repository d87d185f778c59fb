import assert from "node:assert/strict";
import { test } from "node:test";
import { printable } from "./guest-text.ts";

test("what a guest named has no terminal's commands in it, and no line that is not ours", () => {
  assert.equal(printable("plain /tmp/a b"), "plain /tmp/a b");
  assert.equal(printable("\x1b[2Jred\n\0"), "\\x1b[2Jred\\x0a\\x00");
  assert.equal(printable("caf\u00e9 \u2603 \u{1f600}"), "caf\\xe9 \\u{2603} \\u{1f600}");
  assert.equal(printable("x".repeat(5000)).length, 1027);
});
