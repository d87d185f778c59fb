// Clients that leave their answers unread, and slow ones.
import assert from "node:assert/strict";
import { type Duplex, duplexPair } from "node:stream";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Code } from "@connectrpc/connect";
import { GuestService } from "../proto/gen/cloudvmi/v1/guest_pb.ts";
import { Kind } from "./frame.ts";
import { createRoutes, Encoded, serveWire, type WireConnection } from "./index.ts";
import { encodeCredit } from "./payload.ts";
import { pathOf } from "./routes.ts";
import { endOf, listen, type RawPeer, rawPeer, serve, until } from "./testing.ts";

const { listTables, readMemory, streamMemory } = GuestService.method;
const MIB = 1 << 20;

/** Lets everything happen that can without anybody reading. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
}

test("a call keeps its place until its answer has been written, and then tells", async () => {
  let handled = 0;
  let answered = 0;
  const { near, connection } = serve(
    {
      async readMemory(_request, context) {
        handled++;
        context.whenAnswered(() => answered++);
        return new Encoded(new Uint8Array(MIB));
      },
    },
    { maxCalls: 3 },
  );
  near.pause();
  const peer = rawPeer(near);
  near.pause();
  peer.hello();
  for (let id = 1; id <= 10; id++) {
    peer.open(id, pathOf(readMemory));
    await settle();
  }
  assert.deepEqual([handled, answered, connection.calls], [3, 0, 3]);
  near.resume();
  await until(() => peer.frames.length === 10, "every call's end");
  await until(() => connection.calls === 0, "the answers to be written");
  assert.equal(answered, handled);
  peer.open(11, pathOf(readMemory));
  await until(() => answered === handled && peer.frames.length === 11, "a call to be taken on again");
});

test("places of answers that will never be read are free when the connection is gone", async () => {
  let answered = 0;
  const { near, connection } = serve(
    {
      async readMemory(_request, context) {
        context.whenAnswered(() => answered++);
        return new Encoded(new Uint8Array(MIB));
      },
    },
    { stallTimeoutMs: 30 },
  );
  const peer = rawPeer(near);
  near.pause();
  peer.hello();
  for (let id = 1; id <= 3; id++) peer.open(id, pathOf(readMemory));
  await connection.closed;
  assert.deepEqual([connection.calls, answered], [0, 3]);
});

test("small answers to a client that reads nothing do not pile up", async () => {
  const [near, far] = duplexPair();
  serveWire(far, createRoutes<string>().add(GuestService, {}), { authenticate: () => "x" });
  const peer = rawPeer(near);
  near.pause();
  peer.hello();
  for (let id = 1; id < 20_000; id++) {
    peer.open(id, "no/such");
    if (id % 500 === 0) await settle();
  }
  assert.ok(far.writableLength < 512 * 1024, `${far.writableLength} bytes`);
  near.resume();
  await until(() => peer.frames.length === 19_999, "every answer, once they are read");
});

function endless(): { guest: Parameters<typeof serve>[0]; open: () => number } {
  let open = 0;
  const piece = new Encoded(new Uint8Array(MIB / 4));
  return {
    open: () => open,
    guest: {
      listTables: async () => ({}),
      async *streamMemory() {
        open++;
        try {
          for (;;) yield piece;
        } finally {
          open--;
        }
      },
    },
  };
}

test("a stream whose client reads nothing, whatever credit it gives, is cut off", async () => {
  const { guest, open } = endless();
  const { near, connection } = serve(guest, { stallTimeoutMs: 30 });
  const peer = rawPeer(near);
  near.pause();
  peer.hello();
  peer.open(1, pathOf(streamMemory));
  peer.send(1, Kind.Credit, encodeCredit(0xffffffff));
  await until(() => open() === 1, "the stream to begin");
  // Asking for signs of life is not reading.
  const pings = setInterval(() => peer.send(0, Kind.Ping), 5);
  await connection.closed;
  clearInterval(pings);
  await until(() => open() === 0, "the handler to be told");
});

test("who was stopped itself for a while takes no client for one that does not read", async () => {
  const { guest, open } = endless();
  const { near } = serve(guest, { stallTimeoutMs: 200, unreadTimeoutMs: 200 });
  const peer = rawPeer(near);
  near.pause();
  peer.hello();
  peer.open(1, pathOf(streamMemory));
  peer.open(2, pathOf(streamMemory));
  peer.send(1, Kind.Credit, encodeCredit(0xffffffff));
  await until(() => open() === 2, "the streams to begin");
  // It has been looked at once.
  await sleep(80);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 700);
  // The timers that were due have run when this goes on.
  await sleep(0);
  await settle();
  assert.equal(open(), 2);
  near.destroy();
});

test("a stream whose messages are not consumed ends, and the connection's other calls go on", async () => {
  const { guest, open } = endless();
  const { near, connection } = serve(guest, { unreadTimeoutMs: 30 });
  const peer = rawPeer(near);
  peer.hello();
  peer.open(1, pathOf(streamMemory));
  await until(() => peer.frames.at(-1)?.kind === Kind.End, "the stream to end");
  await until(() => open() === 0 && connection.calls === 0, "the handler to be told");
  const messages = peer.frames.length - 1;
  for (let at = 0; at < messages; at++) await peer.frame();
  assert.deepEqual((await endOf(peer)).slice(0, 2), [1, Code.ResourceExhausted]);
  peer.open(2, pathOf(listTables));
  assert.equal((await peer.frame()).kind, Kind.Last);
});

test("whoever passes an answer on may wait with consuming it for ever", async () => {
  const { guest, open } = endless();
  const { near } = serve(guest, { stallTimeoutMs: 10 });
  const peer = rawPeer(near);
  peer.hello();
  peer.open(1, pathOf(streamMemory));
  await until(() => peer.frames.length > 10, "credit to be used up");
  await sleep(100);
  assert.equal(open(), 1);
});

test("a slow consumer goes on", async () => {
  const { guest, open } = endless();
  const { near } = serve(guest, { unreadTimeoutMs: 1000 });
  const peer = rawPeer(near);
  peer.hello();
  peer.open(1, pathOf(streamMemory));
  // Too little for another message each time, for longer than a client that consumes nothing may take.
  for (let times = 0; times < 20; times++) {
    await sleep(60);
    peer.send(1, Kind.Credit, encodeCredit(10));
  }
  assert.equal(open(), 1);
  assert.ok(peer.frames.every(({ kind }) => kind === Kind.Message));
});

/** Reads slowly until `done`, and hands what comes to the peer's frames. */
async function readSlowly(peer: RawPeer, stream: Duplex, done: () => boolean): Promise<void> {
  while (!done() && !stream.destroyed) {
    stream.resume();
    await new Promise(setImmediate);
    stream.pause();
    await sleep(20);
  }
  assert.ok(peer.frames.length > 0);
}

for (const kind of ["unix", "tls"] as const) {
  test(`a large answer that is read slowly over ${kind} arrives, though it is one write`, async () => {
    let connection: WireConnection | undefined;
    const routes = createRoutes<string>().add(GuestService, {
      readMemory: async () => new Encoded(new Uint8Array(24 * MIB)),
    });
    await using server = await listen(kind, (stream) => {
      connection = serveWire(stream, routes, { authenticate: () => "x", stallTimeoutMs: 300 });
    });
    const stream = await server.dial();
    const peer = rawPeer(stream);
    stream.pause();
    peer.hello();
    peer.open(1, pathOf(readMemory));
    await readSlowly(peer, stream, () => peer.frames.length > 0);
    assert.equal(peer.frames[0]?.kind, Kind.Last);
    assert.equal(peer.frames[0]?.payload.length, 24 * MIB);
    await until(() => connection?.calls === 0, "the call's place to be free");
    stream.destroy();
  });
}
