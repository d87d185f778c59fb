import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import {
  GuestService,
  ListTablesRequestSchema,
  ListTablesResponseSchema,
  type ReadTableResponseSchema,
  StreamMemoryResponseSchema,
} from "../proto/gen/cloudvmi/v1/guest_pb.ts";
import { INITIAL_CREDIT, Kind } from "./frame.ts";
import { createRoutes, createWireTransport, Encoded, serveWire } from "./index.ts";
import { pathOf } from "./routes.ts";
import { clientOf, endOf, failure, type Guest, listen, rawPeer, serve, until } from "./testing.ts";

const { listTables, readTable, streamMemory } = GuestService.method;

for (const kind of ["unix", "tls"] as const) {
  test(`many calls at once over ${kind}, each with its own answer`, async () => {
    const routes = createRoutes<string>().add(GuestService, {
      async listTables(request, { principal }) {
        await new Promise((resolve) => setImmediate(resolve));
        return { tables: [{ name: principal, description: request.vm?.uuid ?? "" }] };
      },
      async *streamMemory({ start, length }) {
        for (let at = 0n; at < length; at += 100_000n) yield { address: start + at, data: new Uint8Array(100_000) };
      },
    });
    await using server = await listen(kind, (stream) =>
      serveWire(stream, routes, { authenticate: ({ token }) => token }),
    );
    const transport = createWireTransport({ connect: () => server.dial(), token: "alice" });
    const client = createClient(GuestService, transport);
    const calls = Array.from({ length: 200 }, async (_, call) => {
      if (call % 40 === 0) {
        let bytes = 0;
        for await (const piece of client.streamMemory({ start: BigInt(call), length: 10_000_000n })) {
          assert.equal(piece.address, BigInt(call + bytes));
          bytes += piece.data.length;
        }
        assert.equal(bytes, 10_000_000);
      } else {
        const { tables } = await client.listTables({ vm: { uuid: `${call}` } });
        assert.deepEqual([tables[0]?.name, tables[0]?.description], ["alice", `${call}`]);
      }
    });
    await Promise.all(calls);
    await transport.close();
  });
}

test("encoded requests and answers pass through unread, both ways", async () => {
  const encoded = toBinary(ListTablesResponseSchema, create(ListTablesResponseSchema, { tables: [{ name: "t" }] }));
  const { near } = serve({
    async listTables(request) {
      assert.equal(request.vm?.uuid, "u");
      return new Encoded(encoded);
    },
    async *readTable() {
      yield new Encoded(Uint8Array.of(0x10, 5));
      yield { rows: 6 };
    },
  });
  const { transport, client } = clientOf(near);
  const request = toBinary(ListTablesRequestSchema, create(ListTablesRequestSchema, { vm: { uuid: "u" } }));
  assert.deepEqual(await transport.unaryEncoded(listTables, new Encoded(request)), encoded);
  const rows: number[] = [];
  for await (const message of client.readTable({})) rows.push(message.rows);
  assert.deepEqual(rows, [5, 6]);
  const raw: Uint8Array[] = [];
  for await (const bytes of transport.streamEncoded(readTable, {})) raw.push(bytes);
  assert.deepEqual(raw, [Uint8Array.of(0x10, 5), Uint8Array.of(0x10, 6)]);
  await transport.close();
});

describe("answers", () => {
  const oneMessage: MessageInitShape<typeof ReadTableResponseSchema> = { rows: 1 };
  const cases: [string, Guest["readTable"], number[]][] = [
    [
      "one message",
      async function* () {
        yield oneMessage;
      },
      [Kind.Last],
    ],
    ["none", async function* () {}, [Kind.End]],
    [
      "two",
      async function* () {
        yield oneMessage;
        yield oneMessage;
      },
      [Kind.Message, Kind.Message, Kind.End],
    ],
    [
      "one, and a failure",
      async function* () {
        yield oneMessage;
        throw new ConnectError("x", Code.DataLoss);
      },
      [Kind.Message, Kind.End],
    ],
    // The first message is not held back until a slow handler knows that there is no other.
    [
      "one, then a wait",
      async function* () {
        yield oneMessage;
        await new Promise(setImmediate);
      },
      [Kind.Message, Kind.End],
    ],
  ];
  for (const [name, handler, kinds] of cases) {
    test(`${name}: ${kinds.length} frames`, async () => {
      const peer = rawPeer(serve({ readTable: handler! }).near);
      peer.hello();
      peer.open(1, pathOf(readTable));
      const seen: number[] = [];
      while (seen.length < kinds.length) seen.push((await peer.frame()).kind);
      assert.deepEqual(seen, kinds);
    });
  }
});

test("errors: a ConnectError's code and text reach the caller, of others nothing does", async () => {
  const { near, errors } = serve({
    async listTables() {
      throw new ConnectError("no such VM", Code.NotFound);
    },
    async readMemory() {
      throw new Error("the database password is 1234");
    },
    translate() {
      throw new Error("synchronously");
    },
    async *readTable() {
      yield { rows: 1 };
      throw new Error("the path is /secret");
    },
  });
  const { client } = clientOf(near);
  const internal: [Code, string] = [Code.Internal, "internal error; the server's log says more"];
  assert.deepEqual(await failure(client.listTables({})), [Code.NotFound, "no such VM"]);
  assert.deepEqual(await failure(client.readMemory({})), internal);
  assert.deepEqual(await failure(client.translate({})), internal);
  assert.deepEqual(await failure(all(client.readTable({}))), internal);
  assert.equal((await failure(client.pause({})))[0], Code.Unimplemented);
  assert.equal(errors.length, 3);
});

describe("a handler's signal is aborted", () => {
  /** A handler of both kinds that waits for its signal, and the code it is aborted with. */
  function waiting() {
    const reasons: Code[] = [];
    const aborted = (signal: AbortSignal): Promise<never> =>
      new Promise((_, reject) => {
        signal.addEventListener("abort", () => {
          reasons.push(ConnectError.from(signal.reason).code);
          reject(new Error("aborted"));
        });
      });
    const guest: Guest = {
      listTables: (_request, { signal }) => aborted(signal),
      async *readTable(_request, { signal }) {
        yield { rows: 1 };
        await aborted(signal);
      },
    };
    return { reasons, ...serve(guest) };
  }

  test("when the caller cancels", async () => {
    const { near, connection, reasons, errors } = waiting();
    const { client, transport } = clientOf(near);
    const controller = new AbortController();
    const unary = client.listTables({}, { signal: controller.signal });
    const iterator = transport.streamEncoded(readTable, {})[Symbol.asyncIterator]();
    await iterator.next();
    controller.abort();
    assert.equal((await failure(unary))[0], Code.Canceled);
    await iterator.return?.();
    await until(() => reasons.length === 2 && connection.calls === 0, "both handlers");
    assert.deepEqual([reasons, errors], [[Code.Canceled, Code.Canceled], []]);
  });

  test("when the time is up, which the caller hears", async () => {
    const { near, reasons } = waiting();
    const peer = rawPeer(near);
    peer.hello();
    peer.open(1, pathOf(listTables), undefined, 5);
    assert.deepEqual((await endOf(peer)).slice(0, 2), [1, Code.DeadlineExceeded]);
    assert.deepEqual(reasons, [Code.DeadlineExceeded]);
  });

  test("when the connection breaks", async () => {
    const { near, connection, reasons } = waiting();
    const peer = rawPeer(near);
    peer.hello();
    peer.open(1, pathOf(listTables));
    peer.open(2, pathOf(readTable));
    await peer.frame();
    near.destroy();
    await connection.closed;
    assert.deepEqual(reasons, [Code.Canceled, Code.Canceled]);
  });

  test("when the server closes, which the caller hears", async () => {
    const { near, connection, reasons } = waiting();
    const { client } = clientOf(near);
    const call = client.listTables({});
    await until(() => connection.calls === 1, "the call");
    connection.close();
    assert.deepEqual(await failure(call), [Code.Unavailable, "the server closed the connection"]);
    assert.deepEqual(reasons, [Code.Unavailable]);
    await connection.closed;
  });
});

test("a slow reader of one call bounds what is produced for it, and holds up no other", async () => {
  const piece = new Encoded(
    toBinary(StreamMemoryResponseSchema, create(StreamMemoryResponseSchema, { data: new Uint8Array(65_536) })),
  );
  let produced = 0;
  let stopped = false;
  const routes = createRoutes<string>().add(GuestService, {
    async listTables() {
      return {};
    },
    async *streamMemory() {
      try {
        for (;;) {
          produced += piece.bytes.length;
          yield piece;
        }
      } finally {
        stopped = true;
      }
    },
  });
  await using server = await listen("unix", (stream) => serveWire(stream, routes, { authenticate: () => "x" }));
  const transport = createWireTransport({ connect: () => server.dial() });
  const client = createClient(GuestService, transport);
  const slow = transport.streamEncoded(streamMemory, {})[Symbol.asyncIterator]();
  await slow.next();
  await until(() => produced >= INITIAL_CREDIT, "the first window");
  for (let call = 0; call < 100; call++) await client.listTables({});
  assert.ok(produced < INITIAL_CREDIT + 4 * piece.bytes.length, `${produced}`);
  // Consumption lets more through: five windows' worth.
  for (let taken = 0; taken < 5 * INITIAL_CREDIT; ) taken += (await slow.next()).value?.length ?? 0;
  assert.ok(produced < 6 * INITIAL_CREDIT + 4 * piece.bytes.length, `${produced}`);
  await slow.return?.();
  await until(() => stopped, "the handler's end");
  await transport.close();
});

test("routes: a service can't be added twice", () => {
  const routes = createRoutes<string>().add(GuestService, {});
  assert.throws(() => routes.add(GuestService, {}), /added already/);
});

test("pings are answered", async () => {
  const peer = rawPeer(serve({}).near);
  peer.hello();
  peer.send(7, Kind.Ping);
  assert.deepEqual([(await peer.frame()).kind, peer.frames[0]?.id], [Kind.Pong, 7]);
});

async function all<T>(answer: AsyncIterable<T>): Promise<T[]> {
  const messages: T[] = [];
  for await (const message of answer) messages.push(message);
  return messages;
}
