// The calling end of one connection of the session protocol.
import type { Duplex } from "node:stream";
import { Code, ConnectError } from "@connectrpc/connect";
import { createFrameReader, createFrameWriter, Kind, protocolError, tune } from "./frame.ts";
import { decodeEnd, encodeCredit, encodeHello, encodeOpen, type Hello } from "./payload.ts";
import { listenTo } from "./reads.ts";

/** Who waits for the answer of a call. */
export interface Listener {
  /** A message came. False: it is more than was asked for, and the connection can't be trusted any further. */
  message(bytes: Uint8Array): boolean;
  /** No more will come. */
  end(error: ConnectError | undefined): void;
}

/** One live connection. Its methods do nothing once it is over. */
export interface Session {
  /** Why it is over; undefined while it lives. */
  readonly ended: ConnectError | undefined;
  /** Settles, never rejects, when the stream is gone. */
  readonly closed: Promise<void>;
  /** Starts a call and returns its id. Call only while it lives. */
  open(path: string, timeoutMs: number | undefined, request: Uint8Array, listener: Listener): number;
  /** Forgets a call: the server stops it and its listener hears nothing more. */
  cancel(id: number): void;
  /** Lets the server send more bytes of a call. */
  credit(id: number, bytes: number): void;
  /** Takes back the buffer of a message that nobody looks at any more. */
  recycle(message: Uint8Array): void;
  /** Ends the connection; calls under way fail with `reason`. */
  close(reason: ConnectError): void;
}

export interface SessionOptions extends Hello {
  readonly maxMessage: number;
  /** Silence in ms after which the server is asked for a sign of life; as long again without one ends the connection. */
  readonly keepaliveMs: number | undefined;
}

/** Frames that no call waits for, after the last one was given up: those on their way then are fewer. */
const MAX_UNASKED = 100_000;

export function startSession(stream: Duplex, options: SessionOptions): Session {
  const calls = new Map<number, Listener>();
  let reused = false;
  const reader = createFrameReader(options.maxMessage, onFrame, () => reused);
  const writer = createFrameWriter(stream);
  const { promise: closed, resolve: resolveClosed } = Promise.withResolvers<void>();
  let nextId = 1;
  let ended: ConnectError | undefined;
  /** Nothing has come since the last look; then, a ping has been sent too. */
  let silent = false;
  let pinged = false;
  let unasked = 0;
  let keepalive: NodeJS.Timeout | undefined;

  tune(stream);
  stream.on("error", (error: Error) => close(new ConnectError(`connection lost: ${error.message}`, Code.Unavailable)));
  stream.on("end", () => close(lost()));
  stream.on("close", () => {
    close(lost());
    resolveClosed();
  });
  reused = listenTo(stream, onData);
  writer.send(0, Kind.Hello, encodeHello(options));
  if (options.keepaliveMs !== undefined) keepalive = setInterval(listen, options.keepaliveMs).unref();
  if (stream.destroyed) {
    close(lost());
    resolveClosed();
  }

  function onData(chunk: Uint8Array): void {
    if (ended !== undefined) return;
    silent = false;
    try {
      reader.push(chunk);
    } catch (error) {
      close(unusable(error instanceof Error ? error.message : "unknown error"));
    }
  }

  function onFrame(id: number, kind: number, payload: Uint8Array): boolean {
    if (id === 0 && kind === Kind.End) {
      close(decodeEnd(payload) ?? lost());
      return false;
    }
    const listener = calls.get(id);
    // A peer that floods costs a processor, however little each frame is.
    if (listener === undefined && ++unasked > MAX_UNASKED) throw protocolError("it sends what nobody asked for");
    switch (kind) {
      case Kind.Message:
        if (listener?.message(payload) === false) throw protocolError("more came than was asked for");
        break;
      case Kind.Last:
        if (listener?.message(payload) === false) throw protocolError("more came than was asked for");
        calls.delete(id);
        listener?.end(undefined);
        break;
      case Kind.End: {
        const error = decodeEnd(payload);
        calls.delete(id);
        listener?.end(error);
        break;
      }
      case Kind.Pong:
        break;
      default:
        throw protocolError(`a server sends no frames of kind ${kind}`);
    }
    return ended === undefined;
  }

  function listen(): void {
    if (silent && pinged) {
      close(new ConnectError("the server does not answer any more", Code.Unavailable));
      return;
    }
    pinged = silent;
    if (silent) writer.send(0, Kind.Ping);
    silent = true;
  }

  function close(reason: ConnectError): void {
    if (ended !== undefined) return;
    ended = reason;
    clearInterval(keepalive);
    const listeners = [...calls.values()];
    calls.clear();
    for (const listener of listeners) listener.end(reason);
    stream.end(() => stream.destroy());
    // What the server still sends must not hold up the end.
    stream.resume();
    setTimeout(() => stream.destroy(), 1000).unref();
  }

  return {
    get ended() {
      return ended;
    },
    closed,
    open(path, timeoutMs, request, listener) {
      while (calls.has(nextId) || nextId === 0) nextId = (nextId + 1) >>> 0;
      const id = nextId;
      nextId = (nextId + 1) >>> 0;
      calls.set(id, listener);
      writer.send(id, Kind.Open, encodeOpen(path, timeoutMs), request);
      return id;
    },
    cancel(id) {
      if (!calls.delete(id)) return;
      unasked = 0;
      writer.send(id, Kind.Cancel);
    },
    credit(id, bytes) {
      if (calls.has(id)) writer.send(id, Kind.Credit, encodeCredit(bytes));
    },
    recycle: reader.recycle,
    close,
  };
}

function lost(): ConnectError {
  return new ConnectError("the connection was lost", Code.Unavailable);
}

function unusable(text: string): ConnectError {
  return new ConnectError(`the server can't be understood: ${text}`, Code.Internal);
}
