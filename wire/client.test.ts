import assert from "node:assert/strict";
import { type Duplex, duplexPair } from "node:stream";
import { describe, test } from "node:test";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import fc from "fast-check";
import { GuestService } from "../proto/gen/cloudvmi/v1/guest_pb.ts";
import { createFrameReader, createFrameWriter, creditCost, Kind } from "./frame.ts";
import { createRoutes, createWireTransport, serveWire, type WireTransport } from "./index.ts";
import { decodeCredit, encodeEnd } from "./payload.ts";
import { clientOf, failure, serve, until } from "./testing.ts";

const { listTables, streamMemory } = GuestService.method;

/** A transport whose every stream is served anew; `break` ends the live one. */
function redialling(reconnect: boolean) {
  const routes = createRoutes<string>().add(GuestService, {
    listTables: async () => ({}),
    readMemory: (_request, { signal }) =>
      new Promise((_, reject) => signal.addEventListener("abort", () => reject(new Error("aborted")))),
  });
  let dials = 0;
  let live: Duplex | undefined;
  const transport = createWireTransport({
    reconnect,
    connect: () => {
      dials++;
      const [near, far] = duplexPair();
      serveWire(far, routes, { authenticate: () => "x" });
      live = near;
      return near;
    },
  });
  return {
    transport,
    client: createClient(GuestService, transport),
    dials: () => dials,
    break: () => live?.destroy(),
  };
}

test("nothing is dialled before the first call, and once for many", async () => {
  const { client, dials, transport } = redialling(false);
  assert.equal(dials(), 0);
  await Promise.all([client.listTables({}), client.listTables({}), client.listTables({})]);
  assert.equal(dials(), 1);
  await transport.close();
});

test("with reconnect, a break fails the calls under way and the next call dials again", async () => {
  const served = redialling(true);
  await served.client.listTables({});
  const lost = served.client.readMemory({});
  served.break();
  assert.equal((await failure(lost))[0], Code.Unavailable);
  await served.client.listTables({});
  assert.equal(served.dials(), 2);
  await served.transport.close();
  await served.transport.closed;
  assert.deepEqual(await failure(served.client.listTables({})), [
    Code.Canceled,
    "the connection has been closed by this program",
  ]);
});

test("without reconnect, a break is the end", async () => {
  const served = redialling(false);
  await served.client.listTables({});
  served.break();
  await served.transport.closed;
  assert.deepEqual(await failure(served.client.listTables({})), [Code.Unavailable, "the connection was lost"]);
  assert.equal(served.dials(), 1);
});

test("a failure to dial is Unavailable with its reason and cause, and the next call tries again", async () => {
  let dials = 0;
  const cause = new Error("no route");
  const transport = createWireTransport({
    connect: () => {
      dials++;
      throw cause;
    },
  });
  for (const call of [() => transport.unaryEncoded(listTables, {}), () => next(transport)]) {
    await assert.rejects(call, (error: ConnectError) => {
      assert.deepEqual(
        [error.code, error.rawMessage, error.cause],
        [Code.Unavailable, "can't connect: no route", cause],
      );
      return true;
    });
  }
  assert.equal(dials, 2);
});

test("calls that wait for a stream end by their signal, their timeout and by close", async () => {
  const transport = createWireTransport({ connect: () => new Promise<Duplex>(() => undefined) });
  const cancelled = transport.unaryEncoded(listTables, {}, { signal: AbortSignal.timeout(2) });
  assert.equal((await failure(cancelled))[0], Code.DeadlineExceeded);
  assert.equal(
    (await failure(transport.unaryEncoded(listTables, {}, { signal: AbortSignal.abort() })))[0],
    Code.Canceled,
  );
  assert.equal((await failure(transport.unaryEncoded(listTables, {}, { timeoutMs: 2 })))[0], Code.DeadlineExceeded);
  await transport.close();
  assert.equal((await failure(transport.unaryEncoded(listTables, {})))[0], Code.Canceled);
});

test("a server that does not answer in time is DeadlineExceeded even if it takes no notice", async () => {
  const { transport } = fakeServer(() => undefined);
  assert.equal((await failure(transport.unaryEncoded(listTables, {}, { timeoutMs: 5 })))[0], Code.DeadlineExceeded);
  const answer = transport.streamEncoded(streamMemory, {}, { timeoutMs: 5 })[Symbol.asyncIterator]();
  assert.equal((await failure(answer.next()))[0], Code.DeadlineExceeded);
  assert.equal((await answer.next()).done, true);
  await transport.close();
});

test("leaving a loop early cancels the call", async () => {
  let left = false;
  const { near, connection } = serve({
    async *streamMemory() {
      try {
        for (;;) yield { zeros: 1n };
      } finally {
        left = true;
      }
    },
  });
  const { transport } = clientOf(near);
  for await (const bytes of transport.streamEncoded(streamMemory, {})) {
    assert.ok(bytes.length > 0);
    break;
  }
  await until(() => left && connection.calls === 0, "the handler's end");
  await transport.close();
});

test("streams from clients are not carried", async () => {
  const { transport } = fakeServer(() => undefined);
  const method = { ...streamMemory, methodKind: "bidi_streaming" as const };
  await assert.rejects(transport.stream(method, undefined, undefined, undefined, endless()), {
    code: Code.Unimplemented,
  });
});

test("silence beyond the keepalive ends the connection; answers to pings keep it", async () => {
  let pings = 0;
  const silent = fakeServer(() => undefined, 5);
  assert.deepEqual(await failure(silent.transport.unaryEncoded(listTables, {})), [
    Code.Unavailable,
    "the server does not answer any more",
  ]);
  const alive = fakeServer((id, kind, send) => {
    if (kind !== Kind.Ping) return;
    pings++;
    send(id, Kind.Pong);
    if (pings === 3) send(1, Kind.Last);
  }, 5);
  assert.equal((await alive.transport.unaryEncoded(listTables, {})).length, 0);
  await alive.transport.close();
});

describe("a server that misbehaves fails the call, with a reason", () => {
  const answers: [string, (send: Send) => void, Code][] = [
    ["END without a message", (send) => send(1, Kind.End, encodeEnd(undefined)), Code.Internal],
    [
      "two messages",
      (send) => {
        send(1, Kind.Message);
        send(1, Kind.Last);
      },
      Code.Internal,
    ],
    ["an empty END", (send) => send(1, Kind.End), Code.Internal],
    ["a client's frame", (send) => send(1, Kind.Open), Code.Internal],
    ["an unknown code", (send) => send(1, Kind.End, Uint8Array.of(77, 65)), Code.Unknown],
    [
      "goodbye",
      (send) => send(0, Kind.End, encodeEnd(new ConnectError("full", Code.ResourceExhausted))),
      Code.ResourceExhausted,
    ],
    [
      "a flood of what nobody asked for",
      (send) => {
        for (let n = 0; n < 200_000; n++) send(0, Kind.Pong);
      },
      Code.Internal,
    ],
    ["too large a frame", (send) => send(1, Kind.Last, new Uint8Array(5000)), Code.Internal],
  ];
  for (const [name, answer, code] of answers) {
    test(name, async () => {
      const { transport } = fakeServer((_id, kind, send) => {
        if (kind === Kind.Open) answer(send);
      });
      assert.equal((await failure(transport.unaryEncoded(listTables, {})))[0], code);
      await transport.close();
    });
  }

  test("goodbye, which is what later calls hear too when there is no reconnecting", async () => {
    const { transport } = fakeServer((_id, kind, send) => {
      if (kind === Kind.Open) send(0, Kind.End, encodeEnd(new ConnectError("token expired", Code.Unauthenticated)));
    });
    for (let call = 0; call < 2; call++) {
      const refused = await failure(transport.unaryEncoded(listTables, {}));
      assert.deepEqual(refused, [Code.Unauthenticated, "token expired"]);
    }
  });

  test("more of a stream than was asked for", async () => {
    const { transport } = fakeServer((id, kind, send) => {
      if (kind === Kind.Open) for (let n = 0; n < 200_000; n++) send(id, Kind.Message);
    });
    const answer = transport.streamEncoded(streamMemory, {})[Symbol.asyncIterator]();
    await answer.next();
    await transport.closed;
    let messages = 1;
    const drain = async (): Promise<void> => {
      while (!(await answer.next()).done) messages++;
    };
    assert.deepEqual((await failure(drain()))[0], Code.Internal);
    assert.ok(messages < 100_000, `${messages} were kept`);
  });
});

test("messages and requests that are malformed or too large fail alone", async () => {
  const { transport } = fakeServer((id, kind, send) => {
    if (kind === Kind.Open) send(id, Kind.Last, Uint8Array.of(0x0a, 0xff));
  });
  const client = createClient(GuestService, transport);
  assert.deepEqual(await failure(client.listTables({})), [Code.Internal, "the server's answer is malformed"]);
  const large = client.listTables({ vm: { uuid: "x".repeat(5000) } });
  assert.equal((await failure(large))[0], Code.InvalidArgument);
  assert.equal((await failure(client.listTables({})))[0], Code.Internal);
  await transport.close();
});

test("property: no bytes from a server leave a call without its end", async () => {
  const frame = fc.tuple(
    fc.integer({ min: 0, max: 3 }),
    fc.integer({ min: 0, max: 10 }),
    fc.uint8Array({ maxLength: 30 }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(frame, { maxLength: 10 }), fc.uint8Array({ maxLength: 10 }), async (frames, rubbish) => {
      let ending = false;
      const { transport, far } = fakeServer((_id, kind, send) => {
        if (kind !== Kind.Open || ending) return;
        ending = true;
        for (const [id, frameKind, payload] of frames) send(id, frameKind, payload);
        far.write(rubbish);
        setImmediate(() => far.end());
      });
      await Promise.allSettled([transport.unaryEncoded(listTables, {}), next(transport)]);
      await transport.closed;
    }),
    { numRuns: 200 },
  );
});

type Send = (id: number, kind: number, payload?: Uint8Array) => void;

/** A server that answers frames as it is told to. */
function fakeServer(onFrame: (id: number, kind: number, send: Send) => void, keepaliveMs?: number) {
  const [near, far] = duplexPair();
  const writer = createFrameWriter(far);
  const send: Send = (id, kind, payload) => writer.send(id, kind, payload);
  const reader = createFrameReader(1 << 20, (id, kind) => {
    onFrame(id, kind, send);
    return true;
  });
  far.on("error", () => undefined).on("data", (chunk: Uint8Array) => reader.push(chunk));
  return { far, transport: createWireTransport({ connect: () => near, keepaliveMs, maxMessage: 3000 }) };
}

function next(transport: WireTransport): Promise<IteratorResult<Uint8Array>> {
  return transport.streamEncoded(streamMemory, {})[Symbol.asyncIterator]().next();
}

async function* endless(): AsyncGenerator<object> {
  for (;;) yield {};
}

test("a slow consumer says what it has consumed in time, however little", async (t) => {
  let now = 0;
  t.mock.method(performance, "now", () => now);
  const [near, far] = duplexPair();
  const writer = createFrameWriter(far);
  const credits: number[] = [];
  let call = 0;
  const reader = createFrameReader(1 << 20, (id, kind, payload) => {
    if (kind === Kind.Open) call = id;
    if (kind === Kind.Credit) credits.push(decodeCredit(payload));
    return true;
  });
  far.on("data", (chunk: Uint8Array) => reader.push(chunk));
  const transport = createWireTransport({ connect: () => near });
  const answer = transport.streamEncoded(streamMemory, {})[Symbol.asyncIterator]();
  const first = answer.next();
  await until(() => call !== 0, "the call");
  const piece = new Uint8Array(100_000);
  writer.send(call, Kind.Message, undefined, piece);
  await first;
  assert.deepEqual(credits, []);
  now = 11_000;
  writer.send(call, Kind.Message, undefined, piece);
  await answer.next();
  await until(() => credits.length > 0, "credit");
  assert.deepEqual(credits, [2 * creditCost(piece.length)]);
  await transport.close();
});
