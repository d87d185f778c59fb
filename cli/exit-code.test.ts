import assert from "node:assert/strict";
import { test } from "node:test";
import { Code } from "@connectrpc/connect";
import { exitCode, exitCodeOf, worst } from "./exit-code.ts";

test("every status has an exit code, and none is success", () => {
  const all = Object.values(Code).filter((code): code is Code => typeof code === "number");
  assert.equal(all.length, 16);
  for (const code of all) assert.ok([1, 2, 3, 4].includes(exitCodeOf(code)), Code[code]);
});

test("the exit codes say whose turn it is", () => {
  assert.equal(exitCodeOf(Code.InvalidArgument), 2);
  for (const code of [Code.NotFound, Code.PermissionDenied, Code.Unauthenticated]) assert.equal(exitCodeOf(code), 3);
  for (const code of [Code.FailedPrecondition, Code.DataLoss]) assert.equal(exitCodeOf(code), 4);
  for (const code of [Code.Unavailable, Code.Internal, Code.DeadlineExceeded]) assert.equal(exitCodeOf(code), 1);
});

test("of several failures the most specific counts", () => {
  assert.equal(worst([exitCode.failed, exitCode.guest, exitCode.refused]), 4);
  assert.equal(worst([]), 0);
});
