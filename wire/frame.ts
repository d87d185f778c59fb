// Frames of the session protocol: u32le length of what follows | u32le call id | u8 kind | payload.
import type { Duplex } from "node:stream";
import { Code, ConnectError } from "@connectrpc/connect";

/** What a frame says. Call id 0 speaks of the connection as a whole. */
export const Kind = {
  /** First frame of a client: u16le length of the token | token | client name. */
  Hello: 1,
  /** u32le timeout in ms (0: none) | u16le length of the path | path | request. */
  Open: 2,
  /** One message of a streamed answer. */
  Message: 3,
  /** u8 code (0: success) | text. With call id 0: why the connection ends. */
  End: 4,
  /** The only message of an answer, and its successful end. */
  Last: 5,
  /** The client has lost interest. */
  Cancel: 6,
  /** u32le: bytes of streamed answer that the client has consumed since it last said so. */
  Credit: 7,
  /** Asks for the same frame back; the answer says Pong. */
  Ping: 8,
  Pong: 9,
} as const;

/** Bytes of a frame before its payload. */
export const HEADER_BYTES = 9;
/** Largest message by default, in bytes. */
export const DEFAULT_MAX_MESSAGE = 32 * 1024 * 1024;
/** What OPEN may carry beside the request: the method's path. */
const OPEN_BYTES = 1024;
/** The largest HELLO: until it has come, nobody is known, and nobody gets more memory than this. */
export const MAX_HELLO = 16 * 1024;
/** Bytes of a streamed answer that may be under way to a client that has consumed nothing. Part of the protocol. */
export const INITIAL_CREDIT = 4 * 1024 * 1024;
/** Payloads up to this size are copied behind their header, which is cheaper than a second buffer. */
const COPY_BELOW = 4096;

/** What a message costs in credit. The constant keeps a flood of empty messages from being free. */
export function creditCost(bytes: number): number {
  return bytes + 64;
}

/** Takes one frame; false: no more for now. */
export type FrameHandler = (id: number, kind: number, payload: Uint8Array) => boolean;

export interface FrameReader {
  /**
   * Takes what has arrived and reports each complete frame. Returns how many bytes it has taken: all of them unless the
   * handler said to stop. Throws ConnectError when the peer breaks the protocol.
   */
  push(chunk: Uint8Array): number;
  /** Sets the largest message accepted from now on. */
  limit(maxMessage: number): void;
  /** Takes back the buffer of a payload that nobody looks at any more. Large ones cost the garbage collector dearly. */
  recycle(payload: Uint8Array): void;
}

/** Buffers of past payloads that are kept for further ones, and how large at most. */
const SPARE_BUFFERS = 8;
const SPARE_BYTES = 1 << 20;

/**
 * Cuts a byte stream into frames. A payload within one chunk is a view of it; one that spans chunks is gathered in a buffer
 * of its size, so memory held for an incomplete frame never exceeds the limit, however small the chunks. The HEADER_BYTES
 * before a payload in its buffer are the payload's own: see Encoded.received.
 *
 * @param reused the chunks' memory is used again for the next chunk, so that every payload must be a copy
 */
export function createFrameReader(
  maxMessage: number,
  onFrame: FrameHandler,
  reused: () => boolean = () => false,
): FrameReader {
  const header = new Uint8Array(HEADER_BYTES);
  const spare: ArrayBufferLike[] = [];
  /** Buffers of payloads that are with whoever was told of them. */
  const lent = new WeakSet<ArrayBufferLike>();
  let largest = maxMessage + OPEN_BYTES;
  let headerFilled = 0;
  let payload: Uint8Array | undefined;
  let payloadFilled = 0;
  let id = 0;
  let kind = 0;

  /** Reads the header at `at` and returns the payload's length. */
  function parseHeader(bytes: Uint8Array, at: number): number {
    const length = u32(bytes, at);
    if (length < HEADER_BYTES - 4) throw protocolError(`a frame of ${length} bytes is too short`);
    const size = length - (HEADER_BYTES - 4);
    if (size > largest) throw protocolError(`a frame of ${size} bytes is over the limit of ${largest}`);
    id = u32(bytes, at + 4);
    kind = bytes[at + 8] as number;
    return size;
  }

  function push(chunk: Uint8Array): number {
    // A plain Uint8Array: what is cut from a Buffer would be Buffers, whose slice() shares memory.
    const bytes = new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    let at = 0;
    while (at < bytes.length) {
      if (payload === undefined) {
        let size: number;
        if (headerFilled === 0 && bytes.length - at >= HEADER_BYTES) {
          size = parseHeader(bytes, at);
          at += HEADER_BYTES;
        } else {
          const part = Math.min(HEADER_BYTES - headerFilled, bytes.length - at);
          header.set(bytes.subarray(at, at + part), headerFilled);
          headerFilled += part;
          at += part;
          if (headerFilled < HEADER_BYTES) return at;
          headerFilled = 0;
          size = parseHeader(header, 0);
        }
        if (bytes.length - at >= size && at >= HEADER_BYTES && !reused()) {
          const view = bytes.subarray(at, at + size);
          at += size;
          if (!onFrame(id, kind, view)) return at;
          continue;
        }
        payload = bufferFor(size);
        payloadFilled = 0;
      }
      const part = Math.min(payload.length - payloadFilled, bytes.length - at);
      payload.set(bytes.subarray(at, at + part), payloadFilled);
      payloadFilled += part;
      at += part;
      if (payloadFilled === payload.length) {
        const whole = payload;
        payload = undefined;
        if (whole.length > COPY_BELOW) lent.add(whole.buffer);
        if (!onFrame(id, kind, whole)) return at;
      }
    }
    return at;
  }
  /** For a payload: of its own with room before it when it is large, from Node's pool when it is small. */
  function bufferFor(size: number): Uint8Array {
    if (size <= COPY_BELOW) {
      const pooled = Buffer.allocUnsafe(size);
      return new Uint8Array(pooled.buffer, pooled.byteOffset, size);
    }
    const bytes = HEADER_BYTES + size;
    // The last given back is still in the processor's cache. Large ones are not for small payloads to hold.
    const found = spare.findLastIndex(({ byteLength }) => byteLength >= bytes && byteLength <= bytes * 2);
    const buffer = found < 0 ? Buffer.allocUnsafeSlow(bytes).buffer : spare.splice(found, 1)[0]!;
    return new Uint8Array(buffer, HEADER_BYTES, size);
  }

  return {
    push,
    limit(max) {
      largest = max + OPEN_BYTES;
    },
    recycle({ buffer }) {
      if (!lent.delete(buffer) || buffer.byteLength > SPARE_BYTES) return;
      if (spare.length === SPARE_BUFFERS) spare.shift();
      spare.push(buffer);
    },
  };
}

export interface FrameWriter {
  /**
   * Queues a frame with payload `head` + `body`. Frames of one turn of the event loop leave in one write. Large bodies are
   * not copied; with `room` for the header before it (see Encoded), a large body without a head is one buffer with it.
   * `sent` is called when they have left or never will.
   */
  send(id: number, kind: number, head?: Uint8Array, body?: Uint8Array, room?: number, sent?: () => void): void;
}

/** Writes frames to a stream; does nothing once the stream is over. */
export function createFrameWriter(stream: Duplex): FrameWriter {
  let corked = false;
  function flush(): void {
    corked = false;
    stream.uncork();
  }
  return {
    send(id, kind, head = NOTHING, body = NOTHING, room = 0, sent) {
      if (stream.destroyed || stream.writableEnded) {
        sent?.();
        return;
      }
      if (!corked) {
        corked = true;
        stream.cork();
        process.nextTick(flush);
      }
      const size = head.length + body.length;
      const inline = body.length <= COPY_BELOW;
      if (!inline && head.length === 0 && room >= HEADER_BYTES) {
        const frame = Buffer.from(body.buffer, body.byteOffset - HEADER_BYTES, HEADER_BYTES + size);
        writeHeader(frame, size, id, kind);
        stream.write(frame, sent);
        return;
      }
      const frame = Buffer.allocUnsafe(HEADER_BYTES + head.length + (inline ? body.length : 0));
      writeHeader(frame, size, id, kind);
      if (head.length > 0) frame.set(head, HEADER_BYTES);
      if (inline) {
        if (body.length > 0) frame.set(body, HEADER_BYTES + head.length);
        stream.write(frame, sent);
      } else {
        stream.write(frame);
        stream.write(body, sent);
      }
    },
  };
}

function writeHeader(frame: Buffer, size: number, id: number, kind: number): void {
  frame.writeUInt32LE(size + HEADER_BYTES - 4, 0);
  frame.writeUInt32LE(id, 4);
  frame[8] = kind;
}

const NOTHING = new Uint8Array(0);

/** Sets up a socket for small calls: frames leave at once, and a host that is gone without a word is noticed. */
export function tune(stream: Duplex): void {
  if ("setNoDelay" in stream && typeof stream.setNoDelay === "function") stream.setNoDelay(true);
  if ("setKeepAlive" in stream && typeof stream.setKeepAlive === "function") stream.setKeepAlive(true, 30_000);
}

/** A peer that breaks the protocol: the connection can't go on. */
export function protocolError(text: string): ConnectError {
  return new ConnectError(`protocol error: ${text}`, Code.InvalidArgument);
}

export function u32(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24)) >>>
    0
  );
}
