import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync, statSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import tls from "node:tls";
import { Code } from "@connectrpc/connect";
import { failure, protocols, startHarness, until, web1 } from "./testing/harness.ts";

test("closing waits for calls under way and takes no new ones", async () => {
  const harness = await startHarness();
  const clients = await Promise.all(protocols.map((protocol) => harness.as("analyst", protocol)));
  const gate = Promise.withResolvers<void>();
  harness.agent.before = () => gate.promise;
  const calls = clients.map(({ guest }) => guest.translate({ vm: { uuid: web1 } }));
  await until(() => harness.agent.seen.length === protocols.length);
  const closed = harness.control.close();
  const late = failure(harness.clients("").health.check({}));
  assert.equal((await late).code, Code.Unavailable);
  gate.resolve();
  for (const answer of await Promise.all(calls)) assert.equal(answer.vm?.uuid, web1);
  await closed;
  await harness[Symbol.asyncDispose]();
});

test("a client that speaks nothing known, or nonsense, harms nobody", async () => {
  await using harness = await startHarness();
  const { hostname, port } = new URL(harness.control.url);
  const connect = async (protocol: string) => {
    const socket = tls.connect({ host: hostname, port: Number(port), ca: harness.ca, ALPNProtocols: [protocol] });
    socket.on("error", () => {});
    await once(socket, "secureConnect");
    return socket;
  };
  for (const protocol of ["cloudvmi/1", "h2", "http/1.1"]) {
    const socket = await connect(protocol);
    socket.resume();
    socket.write(Buffer.alloc(100_000, 0xff));
    await new Promise((resolve) => socket.once("close", resolve));
  }
  await assert.rejects(connect("smtp"));
  assert.equal((await harness.clients("").health.check({})).ready, true);
});

test("the first operator's token is its owner's to read, in no log, and made once", async () => {
  await using harness = await startHarness();
  const file = path.join(harness.directory, "state", "admin.token");
  const token = readFileSync(file, "utf8");
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.match(token, /^cvmi_[0-9a-f]{16}_[A-Za-z0-9_-]{43}\n$/);
  await harness.restart();
  assert.equal(readFileSync(file, "utf8"), token);
  const { account } = harness.clients(token.trim());
  const who = await account.whoAmI({});
  assert.equal(who.operator, true);
  assert.equal(who.tokenExpiresMs, 0n);
  assert.ok(!harness.log.join("").includes(token.trim().slice(-43)));
  for (const line of harness.log)
    assert.deepEqual(Object.keys(JSON.parse(line)).slice(0, 3), ["time", "level", "event"]);
});
