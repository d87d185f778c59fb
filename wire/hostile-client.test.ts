// Clients that do not keep to the protocol, or to their share.
import assert from "node:assert/strict";
import { duplexPair } from "node:stream";
import { describe, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import fc from "fast-check";
import { GuestService } from "../proto/gen/cloudvmi/v1/guest_pb.ts";
import { HEADER_BYTES, Kind } from "./frame.ts";
import { createRoutes, Encoded, serveWire } from "./index.ts";
import { encodeCredit, encodeHello } from "./payload.ts";
import { pathOf } from "./routes.ts";
import { clientOf, endOf, failure, type RawPeer, rawPeer, serve, until } from "./testing.ts";

const { listTables, readMemory, readTable, streamMemory } = GuestService.method;

test("a malformed request fails alone", async () => {
  const { near } = serve({ listTables: async () => ({}) });
  const peer = rawPeer(near);
  peer.hello();
  peer.open(1, pathOf(listTables), Uint8Array.of(0x0a, 0xff, 1));
  peer.open(2, pathOf(listTables));
  assert.deepEqual((await endOf(peer)).slice(0, 2), [1, Code.InvalidArgument]);
  assert.deepEqual([(await peer.frame()).id, peer.frames.at(-1)?.kind], [2, Kind.Last]);
});

describe("a client that breaks the protocol is told, and cut off", () => {
  const oversized = Buffer.alloc(HEADER_BYTES);
  oversized.writeUInt32LE(33 * 1024 * 1024, 0);
  const cases: [string, (peer: RawPeer) => void][] = [
    ["no HELLO first", (peer) => peer.open(1, pathOf(listTables))],
    ["HELLO too large", (peer) => peer.send(0, Kind.Hello, new Uint8Array(20_000))],
    ["HELLO cut short", (peer) => peer.send(0, Kind.Hello, Uint8Array.of(9, 0, 1))],
    [
      "HELLO twice",
      (peer) => {
        peer.hello();
        peer.hello();
      },
    ],
    [
      "unknown kind",
      (peer) => {
        peer.hello();
        peer.send(1, 99);
      },
    ],
    [
      "a server's frame",
      (peer) => {
        peer.hello();
        peer.send(1, Kind.Message);
      },
    ],
    [
      "a frame over the limit",
      (peer) => {
        peer.hello();
        peer.stream.write(oversized);
      },
    ],
    [
      "an id in use",
      (peer) => {
        peer.hello();
        peer.open(1, pathOf(readTable));
        peer.open(1, pathOf(readTable));
      },
    ],
    [
      "id 0",
      (peer) => {
        peer.hello();
        peer.open(0, pathOf(listTables));
      },
    ],
    [
      "CREDIT of no length",
      (peer) => {
        peer.hello();
        peer.send(1, Kind.Credit);
      },
    ],
  ];
  for (const [name, misbehave] of cases) {
    test(name, async () => {
      const { near, connection } = serve({
        async *readTable(_request, { signal }) {
          await new Promise((resolve) => signal.addEventListener("abort", resolve));
          yield { rows: 1 };
        },
      });
      const peer = rawPeer(near);
      misbehave(peer);
      const [id, code, text] = await endOf(peer);
      assert.deepEqual([id, code], [0, Code.InvalidArgument]);
      assert.match(text ?? "", /^protocol error: /);
      await connection.closed;
      await until(() => connection.calls === 0, "the calls to end");
    });
  }
});

test("a client that says nothing is cut off", async () => {
  const { near, connection } = serve({}, { helloTimeoutMs: 5 });
  assert.deepEqual((await endOf(rawPeer(near))).slice(0, 2), [0, Code.DeadlineExceeded]);
  await connection.closed;
});

test("a client that is not admitted learns why, whatever it asked", async () => {
  for (const authenticate of [
    () => {
      throw new ConnectError("unknown token", Code.Unauthenticated);
    },
    async () => {
      throw new ConnectError("unknown token", Code.Unauthenticated);
    },
  ]) {
    const { near, connection } = serve({ listTables: async () => ({}) }, { authenticate });
    const { client } = clientOf(near, "wrong");
    assert.deepEqual(await failure(client.listTables({})), [Code.Unauthenticated, "unknown token"]);
    await connection.closed;
  }
  const { near, errors } = serve(
    {},
    {
      authenticate: async () => {
        throw new Error("database down");
      },
    },
  );
  assert.equal((await failure(clientOf(near).client.listTables({})))[0], Code.Internal);
  assert.equal(errors.length, 1);
});

test("what comes while a client is being admitted waits, however large", async () => {
  const admit = Promise.withResolvers<string>();
  const { near } = serve(
    { listTables: async ({ vm }) => ({ tables: [{ name: `${vm?.uuid.length}` }] }) },
    { authenticate: () => admit.promise },
  );
  const { client } = clientOf(near);
  const answer = client.listTables({ vm: { uuid: "x".repeat(500_000) } });
  await new Promise(setImmediate);
  admit.resolve("alice");
  assert.equal((await answer).tables[0]?.name, "500000");
});

test("limits: an answer over the limit and calls beyond the most at once fail alone", async () => {
  const hold = Promise.withResolvers<object>();
  const { near, connection } = serve(
    {
      listTables: () => hold.promise,
      readMemory: async () => new Encoded(new Uint8Array(2000)),
      getRegisters: async () => ({}),
    },
    { maxMessage: 1000, maxCalls: 2 },
  );
  const { client } = clientOf(near);
  const first = client.listTables({});
  assert.equal((await failure(client.readMemory({})))[0], Code.ResourceExhausted);
  const second = client.listTables({});
  assert.deepEqual(await failure(client.listTables({})), [Code.ResourceExhausted, "more than 2 calls at once"]);
  hold.resolve({});
  await Promise.all([first, second]);
  await client.getRegisters({});
  assert.equal(connection.calls, 0);
});

test("bytes of requests under way are bounded", async () => {
  const hold = Promise.withResolvers<object>();
  const { near } = serve({ listTables: () => hold.promise }, { maxRequestBytes: 1500 });
  const { client } = clientOf(near);
  const large = { vm: { uuid: "x".repeat(1000) } };
  const first = client.listTables(large);
  assert.equal((await failure(client.listTables(large)))[0], Code.ResourceExhausted);
  hold.resolve({});
  await first;
  await client.listTables(large);
});

test("a client that reads nothing is not written to without bound, and cut off in the end", async () => {
  const piece = new Encoded(new Uint8Array(1 << 20));
  let produced = 0;
  const { near, connection } = serve(
    {
      async readMemory() {
        produced++;
        return piece;
      },
      async *streamMemory() {
        for (;;) {
          produced++;
          yield piece;
        }
      },
    },
    { stallTimeoutMs: 50 },
  );
  const peer = rawPeer(near);
  near.pause();
  peer.hello();
  peer.open(1, pathOf(streamMemory));
  peer.send(1, Kind.Credit, encodeCredit(0xffffffff));
  for (let id = 2; id < 200; id++) {
    peer.open(id, pathOf(readMemory));
    await new Promise(setImmediate);
  }
  await connection.closed;
  assert.ok(produced < 20, `${produced} MiB`);
});

test("property: no sequence of bytes from a client crashes the server or leaves anything behind", async () => {
  const hello = (): Buffer => {
    const payload = encodeHello({ token: "t", client: "c" });
    const frame = Buffer.alloc(HEADER_BYTES);
    frame.writeUInt32LE(payload.length + 5, 0);
    frame[8] = Kind.Hello;
    return Buffer.concat([frame, payload]);
  };
  const frame = fc
    .record({
      id: fc.integer({ min: 0, max: 4 }),
      kind: fc.integer({ min: 0, max: 11 }),
      payload: fc.oneof(
        fc.uint8Array({ maxLength: 60 }),
        fc
          .constantFrom(pathOf(listTables), pathOf(readTable))
          .map((path) => Buffer.concat([Uint8Array.of(1, 0, 0, 0, path.length, 0), Buffer.from(path)])),
      ),
      lie: fc.integer({ min: -3, max: 3 }),
    })
    .map(({ id, kind, payload, lie }) => {
      const header = Buffer.alloc(HEADER_BYTES);
      // Mostly the right length.
      header.writeUInt32LE(Math.max(0, payload.length + 5 + (Math.abs(lie) === 3 ? lie : 0)), 0);
      header.writeUInt32LE(id, 4);
      header[8] = kind;
      return Buffer.concat([header, payload]);
    });
  const routes = createRoutes<string>().add(GuestService, {
    listTables: async () => ({}),
    async *readTable() {
      for (let row = 0; row < 100; row++) yield { rows: row };
    },
  });
  await fc.assert(
    fc.asyncProperty(
      fc.boolean(),
      fc.array(frame, { maxLength: 20 }),
      fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1 }),
      async (greet, list, cuts) => {
        const [near, far] = duplexPair();
        const errors: unknown[] = [];
        const connection = serveWire(far, routes, {
          authenticate: ({ token }) => token,
          onError: (error) => errors.push(error),
        });
        near.on("error", () => undefined).resume();
        const bytes = Buffer.concat([...(greet ? [hello()] : []), ...list]);
        for (let at = 0, cut = 0; at < bytes.length; cut++) {
          const size = cuts[cut % cuts.length]!;
          near.write(bytes.subarray(at, at + size));
          at += size;
        }
        near.end();
        await connection.closed;
        await until(() => connection.calls === 0, "the calls to end");
        assert.deepEqual(errors, []);
      },
    ),
    { numRuns: 200 },
  );
});
