// The calling end: a Transport of Connect over sessions, and the same calls with encoded messages.
import type { Duplex } from "node:stream";
import {
  type DescMessage,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import { Code, ConnectError, type Transport } from "@connectrpc/connect";
import type { Encoded } from "./encoded.ts";
import { DEFAULT_MAX_MESSAGE } from "./frame.ts";
import { watchForEnd } from "./give-up.ts";
import { encodeMessage, pathOf, unimplemented } from "./routes.ts";
import { type Session, startSession } from "./session.ts";
import { streamAnswer } from "./stream-answer.ts";

export interface WireOptions {
  /** Makes the stream to the server. Called for the first call, and again after a break when `reconnect` is set. */
  connect(): Promise<Duplex> | Duplex;
  /** Bearer token; secret. */
  token?: string;
  /** Name and version of this program, for the server's logs. */
  client?: string;
  /** Dial again for the next call when the stream broke. Calls under way fail with Unavailable in any case. */
  reconnect?: boolean;
  /** Largest message accepted or sent, in bytes; by default 32 MiB. */
  maxMessage?: number;
  /** Silence in ms after which the server is asked for a sign of life; as long again without one breaks the stream. Off by default. */
  keepaliveMs?: number;
}

export interface WireCallOptions {
  readonly signal?: AbortSignal | undefined;
  /** After which the call fails with DeadlineExceeded, at both ends. */
  readonly timeoutMs?: number | undefined;
}

/** Calls over one connection at a time, any number at once. Headers and context values are not carried. */
export interface WireTransport extends Transport, AsyncDisposable {
  /** A call of one message, whose answer is left encoded. Fails with ConnectError. */
  unaryEncoded<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I> | Encoded,
    options?: WireCallOptions,
  ): Promise<Uint8Array>;
  /** A streamed answer with its messages left encoded. The call begins with the first `next`; leaving the loop cancels it. */
  streamEncoded<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I> | Encoded,
    options?: WireCallOptions,
  ): AsyncIterable<Uint8Array>;
  /** Takes back a message of unaryEncoded or streamEncoded that nobody looks at any more, so that its buffer serves again. */
  recycle(message: Uint8Array): void;
  /** Ends the connection; calls under way fail with Canceled. Later calls fail too. */
  close(): Promise<void>;
  /** Settles, never rejects, when no call can succeed any more: after `close`, or without `reconnect` when the stream broke. */
  readonly closed: Promise<void>;
}

/** Opens nothing before the first call. */
export function createWireTransport(options: WireOptions): WireTransport {
  const maxMessage = options.maxMessage ?? DEFAULT_MAX_MESSAGE;
  const { promise: closed, resolve: resolveClosed } = Promise.withResolvers<void>();
  let session: Session | undefined;
  let dialing: Promise<Session> | undefined;
  /** Why no call can succeed any more. */
  let finished: ConnectError | undefined;

  async function dial(): Promise<Session> {
    try {
      const stream = await options.connect();
      if (finished !== undefined) {
        stream.destroy();
        throw finished;
      }
      const started = startSession(stream, {
        token: options.token ?? "",
        client: options.client ?? "cloudvmi",
        maxMessage,
        keepaliveMs: options.keepaliveMs,
      });
      session = started;
      void started.closed.then(() => {
        if (options.reconnect) return;
        finished ??= started.ended;
        resolveClosed();
      });
      return started;
    } catch (error) {
      if (error instanceof ConnectError) throw error;
      const text = error instanceof Error ? error.message : String(error);
      throw new ConnectError(`can't connect: ${text}`, Code.Unavailable, undefined, undefined, error);
    }
  }

  function connected(): Session | Promise<Session> {
    if (finished !== undefined) return Promise.reject(finished);
    if (session !== undefined && session.ended === undefined) return session;
    if (session?.ended !== undefined && !options.reconnect) return Promise.reject(session.ended);
    if (dialing === undefined) {
      const attempt = dial();
      dialing = attempt;
      const over = (): void => {
        dialing = undefined;
      };
      attempt.then(over, over);
    }
    return dialing;
  }

  function encode(schema: DescMessage, request: MessageInitShape<DescMessage> | Encoded): Uint8Array {
    const { bytes } = encodeMessage(schema, request);
    if (bytes.length <= maxMessage) return bytes;
    throw new ConnectError(
      `the request of ${bytes.length} bytes is over the limit of ${maxMessage}`,
      Code.InvalidArgument,
    );
  }

  function unaryEncoded(
    method: DescMethodUnary,
    request: MessageInitShape<DescMessage> | Encoded,
    { signal, timeoutMs }: WireCallOptions = {},
  ): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      const bytes = encode(method.input, request);
      let live: Session | undefined;
      let id = 0;
      let answer: Uint8Array | undefined;
      let settled = false;
      let unwatch = (): void => {};
      const settle = (error: ConnectError | undefined): void => {
        if (settled) return;
        settled = true;
        unwatch();
        if (error !== undefined) reject(error);
        else if (answer === undefined) reject(new ConnectError("the server sent no answer", Code.Internal));
        else resolve(answer);
      };
      const giveUp = (error: ConnectError): void => {
        settle(error);
        live?.cancel(id);
      };
      unwatch = watchForEnd(signal, timeoutMs, giveUp);
      if (settled) return;
      const begin = (found: Session): void => {
        if (settled) return;
        live = found;
        id = found.open(pathOf(method), timeoutMs, bytes, {
          message(message) {
            if (answer !== undefined) return false;
            answer = message;
            return true;
          },
          end: settle,
        });
      };
      const found = connected();
      if (found instanceof Promise)
        found.then(begin).catch((error) => settle(ConnectError.from(error, Code.Unavailable)));
      else begin(found);
    });
  }

  function streamEncoded(
    method: DescMethodServerStreaming,
    request: MessageInitShape<DescMessage> | Encoded,
    callOptions: WireCallOptions = {},
  ): AsyncIterable<Uint8Array> {
    return streamAnswer({
      connected,
      path: pathOf(method),
      request: () => encode(method.input, request),
      maxMessage,
      signal: callOptions.signal,
      timeoutMs: callOptions.timeoutMs,
    });
  }

  async function close(): Promise<void> {
    finished ??= new ConnectError("the connection has been closed by this program", Code.Canceled);
    session?.close(finished);
    await session?.closed;
    resolveClosed();
  }

  return {
    unaryEncoded,
    streamEncoded,
    recycle: (message) => session?.recycle(message),
    close,
    closed,
    [Symbol.asyncDispose]: close,
    async unary(method, signal, timeoutMs, _header, input) {
      const bytes = await unaryEncoded(method, input, { signal, timeoutMs });
      return {
        stream: false,
        service: method.parent,
        method,
        // Made only for those who look.
        get header() {
          return new Headers();
        },
        get trailer() {
          return new Headers();
        },
        message: decode(method.output, bytes),
      };
    },
    async stream(method, signal, timeoutMs, _header, input) {
      if (method.methodKind !== "server_streaming") throw unimplemented(pathOf(method));
      const request = await only(input);
      const serverStreaming = method as DescMethodServerStreaming<typeof method.input, typeof method.output>;
      const answer = streamEncoded(serverStreaming, request, { signal, timeoutMs });
      return {
        stream: true,
        service: method.parent,
        method,
        // Made only for those who look.
        get header() {
          return new Headers();
        },
        get trailer() {
          return new Headers();
        },
        message: decodeEach(method.output, answer),
      };
    },
  };
}

async function only<T>(input: AsyncIterable<T>): Promise<T> {
  for await (const message of input) return message;
  throw new ConnectError("the request is missing", Code.InvalidArgument);
}

async function* decodeEach<O extends DescMessage>(
  schema: O,
  answer: AsyncIterable<Uint8Array>,
): AsyncGenerator<MessageShape<O>> {
  for await (const bytes of answer) yield decode(schema, bytes);
}

function decode<O extends DescMessage>(schema: O, bytes: Uint8Array): MessageShape<O> {
  try {
    return fromBinary(schema, bytes);
  } catch {
    throw new ConnectError("the server's answer is malformed", Code.Internal);
  }
}
