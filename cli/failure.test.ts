import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { describeFailure, stackOf, usageError } from "./failure.ts";

test("a status of the service becomes one harmless line and its exit code", () => {
  const hostile = new ConnectError("no Linux\nkernel \x1b[2Jfound", Code.FailedPrecondition);
  assert.deepEqual(describeFailure(hostile), { exit: 4, line: "no Linux kernel \\x1b[2Jfound" });
  const expired = describeFailure(new ConnectError("the token has expired", Code.Unauthenticated));
  assert.equal(expired.exit, 3);
  assert.match(expired.line, /^the token has expired: .*cloudvmi login/);
});

test("an authority that isn't known comes with advice, wherever in the causes it is", () => {
  const tls = Object.assign(new Error("self-signed certificate in certificate chain"), {
    code: "SELF_SIGNED_CERT_IN_CHAIN",
  });
  const wrapped = new ConnectError("can't connect", Code.Unavailable, undefined, undefined, tls);
  const { exit, line } = describeFailure(wrapped);
  assert.equal(exit, 1);
  assert.match(line, /copy ca\.pem .* --ca ca\.pem/);
});

test("what the operating system refuses names the file", async () => {
  const error = await readFile("/nonexistent/file").catch((caught: unknown) => caught);
  assert.deepEqual(describeFailure(error), { exit: 1, line: "/nonexistent/file: no such file or directory" });
});

test("anything else is a failure, in one line", () => {
  assert.deepEqual(describeFailure(new Error("one\n  two")), { exit: 1, line: "one two" });
  assert.deepEqual(describeFailure("text"), { exit: 1, line: "text" });
  assert.deepEqual(describeFailure(usageError("wrong")), { exit: 2, line: "wrong" });
});

test("verbose prints the stacks of the causes too, and survives a cycle", () => {
  const cause = new Error("inner");
  const error = new Error("outer", { cause });
  cause.cause = error;
  assert.match(stackOf(error), /outer.*caused by: Error: inner/s);
});

test("advice that the service has given is not given twice", () => {
  const failed = (text: string) => describeFailure(new ConnectError(text, Code.Unauthenticated)).line;
  const whole = "this token has expired: ask for a new one, then run 'cloudvmi login'";
  assert.equal(failed(whole), whole);
  assert.match(failed("no"), /^no: log in with `cloudvmi login URL`/);
});
