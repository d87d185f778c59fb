// What is decided on a call before its request is decoded.
import assert from "node:assert/strict";
import { duplexPair } from "node:stream";
import { test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { GuestService, ReadMemoryRequestSchema } from "../proto/gen/cloudvmi/v1/guest_pb.ts";
import { Kind } from "./frame.ts";
import { createRoutes, serveWire } from "./index.ts";
import { pathOf } from "./routes.ts";
import { clientOf, endOf, failure, rawPeer, serve, until } from "./testing.ts";

const { listTables, readMemory } = GuestService.method;
const nonsense = new Uint8Array(50).fill(0xff);
const stranger = new ConnectError("who are you?", Code.Unauthenticated);

test("a call that is not admitted is refused before its request is decoded", async () => {
  let handled = 0;
  for (const admit of [
    () => {
      throw stranger;
    },
    async () => {
      throw stranger;
    },
  ]) {
    const { near, connection } = serve(
      {
        async listTables() {
          handled++;
          return {};
        },
      },
      { admit },
    );
    const peer = rawPeer(near);
    peer.hello();
    peer.open(1, pathOf(listTables), nonsense);
    assert.deepEqual(await endOf(peer), [1, Code.Unauthenticated, "who are you?"]);
    assert.equal(connection.calls, 0);
  }
  assert.equal(handled, 0);
});

test("each call is asked for by its method; those admitted run, those cancelled meanwhile do not", async () => {
  const asked: string[] = [];
  const handled: string[] = [];
  const admission = Promise.withResolvers<void>();
  const { near, connection } = serve(
    {
      async listTables(_request, { principal }) {
        handled.push(principal);
        return {};
      },
    },
    {
      admit(principal, method) {
        asked.push(`${principal} ${method.name}`);
        return asked.length === 1 ? undefined : admission.promise;
      },
    },
  );
  const peer = rawPeer(near);
  peer.hello("ann");
  for (const id of [1, 2, 3]) peer.open(id, pathOf(listTables));
  peer.send(2, Kind.Cancel);
  await until(() => peer.frames.length === 1, "the first answer");
  assert.deepEqual([handled.length, connection.calls], [1, 2]);
  admission.resolve();
  await until(() => connection.calls === 0, "the calls to end");
  await until(() => peer.frames.length === 2, "the third's answer");
  assert.deepEqual(
    peer.frames.map(({ id }) => id),
    [1, 3],
  );
  assert.deepEqual(handled, ["ann", "ann"]);
  assert.deepEqual(asked, Array(3).fill("ann ListTables"));
});

test("a request over its method's limits is refused, and the same is taken by a method without", async () => {
  const routes = createRoutes<string>((path) =>
    path === pathOf(readMemory) ? { bytes: 100, values: 9 } : { bytes: 1e6, values: 1e6 },
  );
  routes.add(GuestService, { readMemory: async () => ({}), listTables: async () => ({}) });
  const [near, far] = duplexPair();
  serveWire(far, routes, { authenticate: () => "x" });
  const { client } = clientOf(near);
  await client.readMemory({ items: [{ length: 1 }, { length: 2 }] });
  assert.equal((await failure(client.readMemory({ items: Array(10).fill({}) })))[0], Code.ResourceExhausted);
  assert.equal((await failure(client.readMemory({ vm: { uuid: "x".repeat(200) } })))[0], Code.ResourceExhausted);
  await client.listTables({ vm: { uuid: "x".repeat(200) } });
});

test("a client may send as much as it is known for", async () => {
  const { near } = serve(
    { readMemory: async () => ({}) },
    { maxRequest: (principal) => (principal === "ann" ? 1e6 : 1000) },
  );
  const large = { vm: { uuid: "x".repeat(10_000) } };
  await clientOf(near, "ann").client.readMemory(large);
  const other = serve({ readMemory: async () => ({}) }, { maxRequest: () => 1000 });
  const peer = rawPeer(other.near);
  peer.hello("");
  peer.open(1, pathOf(readMemory), toBinary(ReadMemoryRequestSchema, create(ReadMemoryRequestSchema, large)));
  assert.deepEqual((await endOf(peer)).slice(0, 2), [0, Code.InvalidArgument]);
});
