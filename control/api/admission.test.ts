// What strangers and tenants may cost before anything is decided about their requests.
import assert from "node:assert/strict";
import { once } from "node:events";
import https from "node:https";
import { after, afterEach, before, test } from "node:test";
import tls from "node:tls";
import { create, toBinary } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { GuestService, ReadMemoryRequestSchema } from "../../proto/gen/cloudvmi/v1/guest_pb.ts";
import { pathOf } from "../../wire/index.ts";
import { endOf, rawPeer } from "../../wire/testing.ts";
import { failure, type Harness, protocols, startHarness, until, web1 } from "../testing/harness.ts";
import type { Gate, Session } from "./gate.ts";
import { guestService } from "./guest.ts";

let harness: Harness;
before(async () => {
  harness = await startHarness();
});
after(() => harness[Symbol.asyncDispose]());
afterEach(() => {
  harness.agent.seen.length = 0;
});

const vm = { uuid: web1 };
const readMemory = pathOf(GuestService.method.readMemory);
const nonsense = new Uint8Array(2000).fill(0xff);

/** A connection of the session protocol, frame by frame. */
async function connect(token: string) {
  const { hostname, port } = new URL(harness.control.url);
  const ALPNProtocols = ["cloudvmi/1"];
  const stream = tls.connect({ host: hostname, port: Number(port), ca: harness.ca, ALPNProtocols });
  await once(stream, "secureConnect");
  const peer = rawPeer(stream);
  peer.hello(token);
  return peer;
}

test("who has no valid token is told so whatever the request, over the session protocol", async () => {
  const stranger = await connect("");
  stranger.open(1, readMemory, nonsense);
  assert.deepEqual((await endOf(stranger)).slice(0, 2), [1, Code.Unauthenticated]);
  const { secret, token } = await harness.admin.createUserToken({ user: "analyst" });
  const analyst = await connect(secret);
  analyst.open(1, readMemory, nonsense);
  assert.deepEqual((await endOf(analyst)).slice(0, 2), [1, Code.InvalidArgument]);
  await harness.admin.revokeUserToken({ id: token!.id });
  analyst.open(2, readMemory, nonsense);
  assert.deepEqual((await endOf(analyst)).slice(0, 2), [2, Code.Unauthenticated]);
  for (const { stream } of [stranger, analyst]) stream.destroy();
});

test("who has no valid token is told so before the request has come, by HTTP", async () => {
  const headers = { "content-type": "application/json", "content-length": 1_000_000 };
  const options = { method: "POST", ca: harness.ca, headers, agent: false };
  const request = https.request(`${harness.control.url}/${readMemory}`, options).on("error", () => {});
  request.write("{");
  const [response] = await once(request, "response");
  assert.equal(response.statusCode, 401);
  request.destroy();
});

test("a stranger has no room for large requests", async () => {
  const stranger = await connect("");
  stranger.open(1, readMemory, new Uint8Array(100_000));
  assert.deepEqual((await endOf(stranger)).slice(0, 2), [0, Code.InvalidArgument]);
});

for (const protocol of protocols) {
  test(`requests of many small values are refused, and the largest batches are not, by ${protocol}`, async () => {
    const { guest, sql } = await harness.as("analyst", protocol);
    const many = Array.from({ length: 300_000 }, () => ({}));
    const refused = [
      guest.readMemory({ vm, items: many }),
      guest.translate({ vm, items: many }),
      guest.getRegisters({ vm: { uuid: "x".repeat(20_000) } }),
      guest.lookupTypes({ vm, names: many.slice(0, 5000).map(() => "") }),
      sql.query({ statement: "select 1", vms: many.slice(0, 10_000).map(() => "") }),
    ];
    for (const { code } of await Promise.all(refused.map(failure))) assert.equal(code, Code.ResourceExhausted);
    assert.deepEqual(harness.agent.seen, []);
    const space = { space: { case: "pid" as const, value: 2 ** 31 - 1 } };
    const address = 2n ** 64n - 1n;
    const item = { space, address, length: 1 };
    const after = { item: 4095, offset: 1000 };
    const items = [item, ...Array.from({ length: 4095 }, () => ({ ...item, after }))];
    assert.equal((await guest.readMemory({ vm, items })).results.length, 4096);
    await guest.translate({ vm, items: Array.from({ length: 65_536 }, () => ({ space, address })) });
    const rules = Array.from({ length: 1000 }, (_, at) => ({ name: `r${at}`, source: "x".repeat(1500) }));
    for await (const _ of guest.scan({ vm, rules }));
    assert.equal(harness.agent.seen.length, 3);
  });
}

test("health needs no token, and its request is empty", async () => {
  const peer = await connect("");
  const health = "cloudvmi.v1.HealthService/Check";
  peer.open(1, health, new Uint8Array(1000));
  assert.deepEqual((await endOf(peer)).slice(0, 2), [1, Code.ResourceExhausted]);
  peer.open(2, health);
  assert.equal((await peer.frame()).id, 2);
  peer.stream.destroy();
});

test("nothing is worked out of a request for the record before its caller has a place", async () => {
  const full = new Error("no place");
  const gate = { enter: () => Promise.reject(full) } as unknown as Gate;
  const guest = guestService(gate, {} as never);
  const request = new Proxy({}, { get: () => assert.fail("looked at") }) as never;
  const context = { principal: { credential: { kind: "missing" } } as Session } as never;
  for (const method of ["scan", "streamMemory", "readTable", "readMemory"] as const) {
    const answer = guest[method](request, context);
    const call = Symbol.asyncIterator in answer ? answer[Symbol.asyncIterator]().next() : answer;
    await assert.rejects(call, full, method);
  }
});

test("a user who does not read gets no further large answers, others do, and reading goes on where it stopped", async () => {
  const items = Array.from({ length: 16 }, () => ({ length: 1 << 20 }));
  const request = toBinary(ReadMemoryRequestSchema, create(ReadMemoryRequestSchema, { vm, items }));
  const peers = await Promise.all([1, 2].map(async () => connect(await harness.token("analyst"))));
  for (const { stream } of peers) stream.pause();
  for (const peer of peers) for (const id of [1, 2, 3]) peer.open(id, readMemory, request);
  await until(() => harness.agent.seen.length === 4);
  const owner = await harness.as("owner");
  assert.equal((await owner.guest.readMemory({ vm, items })).results.length, 16);
  const analyst = await harness.as("analyst");
  assert.equal((await analyst.guest.readMemory({ vm, items: [{ length: 3 }] })).results[0]?.data.length, 3);
  assert.equal(harness.agent.seen.length, 6);
  // Of 8 calls, 6 keep their places.
  const more = [1, 2, 3].map(() => failure(analyst.guest.readMemory({ vm, items })));
  assert.equal((await Promise.race(more)).code, Code.ResourceExhausted);
  for (const { stream } of peers) stream.resume();
  await until(() => peers.every(({ frames }) => frames.length === 3));
  await analyst.guest.readMemory({ vm, items });
  for (const { stream } of peers) stream.destroy();
});
