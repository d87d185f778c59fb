import assert from "node:assert/strict";
import { duplexPair } from "node:stream";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import fc from "fast-check";
import { Encoded } from "./encoded.ts";
import { createFrameReader, createFrameWriter, HEADER_BYTES } from "./frame.ts";
import { decodeEnd, decodeHello, decodeOpen, encodeEnd, encodeHello, encodeOpen } from "./payload.ts";

interface Frame {
  id: number;
  kind: number;
  payload: Uint8Array;
}

const u32 = fc.integer({ min: 0, max: 0xffffffff });
const frames = fc.array(
  fc.record({
    id: u32,
    kind: fc.integer({ min: 0, max: 255 }),
    payload: fc.oneof(
      fc.uint8Array({ maxLength: 40 }),
      // Sizes about the point from which bodies are no longer copied behind their header.
      fc.integer({ min: 4090, max: 4100 }).map((size) => new Uint8Array(size).fill(7)),
    ),
  }),
  { maxLength: 12 },
);

async function encode(list: Frame[]): Promise<Buffer> {
  const [near, far] = duplexPair();
  const writer = createFrameWriter(near);
  for (const { id, kind, payload } of list) writer.send(id, kind, payload.subarray(0, 3), payload.subarray(3));
  process.nextTick(() => near.end());
  const chunks: Buffer[] = [];
  for await (const chunk of far) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

test("frames arrive whole and in order however the stream is cut", async () => {
  await fc.assert(
    fc.asyncProperty(frames, fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1 }), async (sent, cuts) => {
      const bytes = await encode(sent);
      const received: Frame[] = [];
      const reader = createFrameReader(1 << 20, (id, kind, payload) => {
        received.push({ id, kind, payload: payload.slice() });
        return true;
      });
      for (let at = 0, cut = 0; at < bytes.length; cut++) {
        const size = cuts[cut % cuts.length]!;
        const chunk = bytes.subarray(at, at + size);
        assert.equal(reader.push(chunk), chunk.length);
        at += size;
      }
      assert.deepEqual(
        received,
        sent.map((frame) => ({ ...frame, payload: new Uint8Array(frame.payload) })),
      );
    }),
    { numRuns: 100 },
  );
});

test("frames that are passed on in the room of their headers harm no neighbour, however the stream is cut", async () => {
  await fc.assert(
    fc.asyncProperty(frames, fc.array(fc.integer({ min: 1, max: 9000 }), { minLength: 1 }), async (sent, cuts) => {
      const bytes = await encode(sent);
      const [near, far] = duplexPair();
      const onward = createFrameWriter(near);
      const reader = createFrameReader(1 << 20, (id, kind, payload) => {
        const { bytes: body, room } = Encoded.received(payload);
        onward.send(id, kind, undefined, body, room);
        return true;
      });
      for (let at = 0, cut = 0; at < bytes.length; cut++) {
        const size = cuts[cut % cuts.length]!;
        // A copy each: a chunk is the reader's own.
        reader.push(Buffer.from(bytes.subarray(at, at + size)));
        at += size;
      }
      process.nextTick(() => near.end());
      const chunks: Buffer[] = [];
      for await (const chunk of far) chunks.push(chunk as Buffer);
      assert.deepEqual(Buffer.concat(chunks), bytes);
    }),
    { numRuns: 100 },
  );
});

test("chunks whose memory is used again, and payloads that are given back, mix up no frames", async () => {
  await fc.assert(
    fc.asyncProperty(frames, fc.array(fc.integer({ min: 1, max: 9000 }), { minLength: 1 }), async (sent, cuts) => {
      const bytes = await encode(sent);
      const received: Frame[] = [];
      /** Given back late, as a message is that has to leave first. */
      const held: Uint8Array[] = [];
      const reader = createFrameReader(
        1 << 20,
        (id, kind, payload) => {
          held.push(payload);
          if (held.length > 2) {
            const first = held.shift()!;
            received.push({ id, kind, payload: first.slice() });
            reader.recycle(first);
          }
          return true;
        },
        () => true,
      );
      const chunk = Buffer.alloc(9000);
      for (let at = 0, cut = 0; at < bytes.length; cut++) {
        const size = Math.min(cuts[cut % cuts.length]!, bytes.length - at);
        bytes.copy(chunk, 0, at, at + size);
        reader.push(chunk.subarray(0, size));
        chunk.fill(0xee);
        at += size;
      }
      const payloads = [...received.map(({ payload }) => payload), ...held.map((payload) => payload.slice())];
      assert.deepEqual(
        payloads,
        sent.map(({ payload }) => new Uint8Array(payload)),
      );
    }),
    { numRuns: 100 },
  );
});

test("a handler that says stop gets the rest when it is pushed again", async () => {
  const bytes = await encode([1, 2, 3].map((id) => ({ id, kind: 1, payload: Uint8Array.of(id) })));
  const seen: number[] = [];
  const reader = createFrameReader(100, (id) => {
    seen.push(id);
    return id !== 1;
  });
  const taken = reader.push(bytes);
  assert.deepEqual([taken, seen], [HEADER_BYTES + 1, [1]]);
  reader.push(bytes.subarray(taken));
  assert.deepEqual(seen, [1, 2, 3]);
});

test("frames over the limit or without room for a header are refused before their payload comes", () => {
  const header = (length: number): Buffer => {
    const bytes = Buffer.alloc(HEADER_BYTES);
    bytes.writeUInt32LE(length, 0);
    return bytes;
  };
  for (const length of [0, 4, 100_000, 0xffffffff]) {
    const reader = createFrameReader(1000, () => true);
    assert.throws(() => reader.push(header(length)), /protocol error: a frame of/, String(length));
  }
});

test("a large body is written as it is, without a copy", async () => {
  const [near] = duplexPair();
  const body = new Uint8Array(100_000);
  const written: Uint8Array[] = [];
  near.write = (chunk: Uint8Array) => {
    written.push(chunk);
    return true;
  };
  createFrameWriter(near).send(1, 3, undefined, body);
  assert.equal(written[1], body);
});

test("payloads survive the wire", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme" }), fc.string(), (token, client) => {
      assert.deepEqual(decodeHello(encodeHello({ token, client })), { token, client });
    }),
  );
  fc.assert(
    fc.property(fc.option(fc.integer({ min: 1, max: 0xffffffff }), { nil: undefined }), (timeoutMs) => {
      const { path, ...rest } = decodeOpen(encodeOpen("a.b.C/D", timeoutMs));
      assert.deepEqual([path, rest.timeoutMs, rest.request.length], ["a.b.C/D", timeoutMs, 0]);
    }),
  );
  const error = decodeEnd(encodeEnd(new ConnectError("näh", Code.NotFound)));
  assert.deepEqual([error?.code, error?.rawMessage], [Code.NotFound, "näh"]);
  assert.equal(decodeEnd(encodeEnd(undefined)), undefined);
  assert.equal(decodeEnd(Uint8Array.of(200))?.code, Code.Unknown);
});

test("no payload makes the decoders throw anything but a protocol error", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (payload) => {
      for (const decode of [decodeHello, decodeOpen, decodeEnd]) {
        try {
          decode(payload);
        } catch (error) {
          assert.ok(error instanceof ConnectError && error.rawMessage.startsWith("protocol error"));
        }
      }
    }),
  );
});
