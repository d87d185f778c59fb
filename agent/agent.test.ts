import assert from "node:assert/strict";
import { test } from "node:test";
import { harmless } from "./agent.ts";

test("what a hypervisor says can't pass for a line of the agent's own, or steer a terminal", () => {
  assert.equal(
    harmless("a VM can't be opened: \x1b]0;x\x07\nagent host1: all is well\u2028\u202e"),
    "a VM can't be opened: ?]0;x?\n    agent host1: all is well??",
  );
});
