// The serving end of the session protocol.
import type { Duplex } from "node:stream";
import { setImmediate } from "node:timers/promises";
import type { Message } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { type Call, createCall, createContext, endOfTurn, ignore, wake } from "./call.ts";
import type { Encoded } from "./encoded.ts";
import {
  createFrameReader,
  createFrameWriter,
  creditCost,
  DEFAULT_MAX_MESSAGE,
  Kind,
  MAX_HELLO,
  protocolError,
  tune,
} from "./frame.ts";
import { tookTooLong, unreadFor } from "./give-up.ts";
import { decodeCredit, decodeHello, decodeOpen, encodeEnd, type Hello } from "./payload.ts";
import { decodeRequest } from "./request-limits.ts";
import { type CallContext, encodeMessage, publicError, type Route, type Routes, unimplemented } from "./routes.ts";
import type { ServeOptions, WireConnection } from "./serve-options.ts";
import { watchForStall } from "./stall.ts";

/** Answer bytes waiting in the stream at which handlers of streams are held back, and clients of many small answers. */
const BACKLOG = 128 * 1024;
/** Messages of one call after which others get their turn. */
const BURST = 64;
/** Answer bytes waiting at which nothing more is read from a client that does not read either. */
const HARD_BACKLOG = 8 * 1024 * 1024;
/** Looks at a client that does not read, within the time that it has. */
const LOOKS = 6;
/** Room for credit: a client that grants more has no use for it. */
const MAX_CREDIT = 0xffffffff;

/** Serves `routes` on a stream until either end closes it. Never throws and never emits on behalf of a hostile client. */
export function serveWire<P>(stream: Duplex, routes: Routes<P>, options: ServeOptions<P>): WireConnection {
  const maxMessage = options.maxMessage ?? DEFAULT_MAX_MESSAGE;
  const maxCalls = options.maxCalls ?? 256;
  const maxRequestBytes = options.maxRequestBytes ?? 64 * 1024 * 1024;
  const stallTimeoutMs = options.stallTimeoutMs ?? 60_000;
  const unreadTimeoutMs = options.unreadTimeoutMs ?? Number.POSITIVE_INFINITY;
  const writer = createFrameWriter(stream);
  const reader = createFrameReader(MAX_HELLO, onFrame);
  const open = new Map<number, Call>();
  const waiting = new Set<Call>();
  /** Calls whose answer waits to be written. */
  const unwritten = new Set<Call>();
  const { promise: closed, resolve: resolveClosed } = Promise.withResolvers<void>();
  let state: "new" | "authenticating" | "ready" | "over" = "new";
  let principal: P;
  /** What came behind HELLO and waits until the client is known. */
  const early: Uint8Array[] = [];
  let running = 0;
  let requestBytes = 0;
  /** Nothing is read from a client that leaves too much unread. */
  let heldBack = false;
  const stall = watchForStall(stream, {
    timeoutMs: stallTimeoutMs,
    everyMs: Math.min(stallTimeoutMs, unreadTimeoutMs) / LOOKS,
    onStall: () => stream.destroy(),
    onLook: endUnread,
  });

  const helloTimer = setTimeout(
    () => fail(new ConnectError("the client did not introduce itself in time", Code.DeadlineExceeded)),
    options.helloTimeoutMs ?? 10_000,
  );
  tune(stream);
  stream.on("data", onData);
  stream.on("drain", onDrain);
  stream.on("error", ignore);
  stream.on("end", () => stream.destroy());
  stream.on("close", onClose);
  if (stream.destroyed) onClose();

  function onData(chunk: Uint8Array): void {
    if (state === "over") return;
    try {
      const taken = state === "authenticating" ? 0 : reader.push(chunk);
      if (state === "authenticating" && taken < chunk.length) early.push(chunk.subarray(taken));
    } catch (error) {
      fail(publicError(error, "connection", options.onError));
    }
  }

  /** Says goodbye with `error` and ends the connection. */
  function fail(error: ConnectError): void {
    if (state === "over") return;
    writer.send(0, Kind.End, encodeEnd(error));
    abortAll(error);
    // end() flushes the goodbye; a peer that doesn't take it is not waited for.
    stream.end(() => stream.destroy());
    stream.resume();
    setTimeout(() => stream.destroy(), 1000).unref();
  }

  function abortAll(reason: ConnectError): void {
    state = "over";
    clearTimeout(helloTimer);
    stall.end();
    early.length = 0;
    for (const call of open.values()) finish(call, reason);
    for (const call of unwritten) written(call);
  }

  function onClose(): void {
    if (state !== "over") abortAll(new ConnectError("the connection was closed", Code.Canceled));
    resolveClosed();
  }

  function onFrame(id: number, kind: number, payload: Uint8Array): boolean {
    if (state === "new") {
      if (kind !== Kind.Hello) throw protocolError("the first frame must be HELLO");
      clearTimeout(helloTimer);
      authenticate(decodeHello(payload));
    } else if (kind === Kind.Open) {
      onOpen(id, payload);
    } else if (kind === Kind.Cancel) {
      const call = open.get(id);
      if (call !== undefined) finish(call, new ConnectError("the caller cancelled", Code.Canceled));
    } else if (kind === Kind.Credit) {
      const bytes = decodeCredit(payload);
      const call = open.get(id);
      if (call !== undefined) {
        call.credit = Math.min(call.credit + bytes, MAX_CREDIT);
        wake(call);
      }
    } else if (kind === Kind.Ping) {
      writer.send(id, Kind.Pong);
      holdBack();
    } else {
      throw protocolError(`a client sends no frames of kind ${kind}`);
    }
    return state === "ready";
  }

  function authenticate(hello: Hello): void {
    const refuse = (error: unknown): void => fail(publicError(error, "connection", options.onError));
    const admit = (value: P): void => {
      if (state === "over") return;
      principal = value;
      state = "ready";
      reader.limit(options.maxRequest?.(value) ?? maxMessage);
    };
    try {
      const result = options.authenticate(hello);
      if (!(result instanceof Promise)) {
        admit(result);
        return;
      }
      state = "authenticating";
      // Strangers get no memory: what they send stays in the socket.
      stream.pause();
      result
        .then((value) => {
          admit(value);
          for (const chunk of early.splice(0)) onData(chunk);
          stream.resume();
        })
        .catch(refuse);
    } catch (error) {
      refuse(error);
    }
  }

  function onOpen(id: number, payload: Uint8Array): void {
    if (id === 0 || open.has(id)) throw protocolError(`call id ${id} can't be opened`);
    const { path, timeoutMs, request } = decodeOpen(payload);
    let route: Route<P>;
    try {
      route = accept(path, request);
    } catch (error) {
      writer.send(id, Kind.End, encodeEnd(publicError(error, path, options.onError)));
      holdBack();
      return;
    }
    const call = createCall(id, request.length);
    if (timeoutMs !== undefined) {
      const late = (): void => end(call, tookTooLong());
      call.timer = setTimeout(late, Math.min(timeoutMs, 0x7fffffff));
    }
    open.set(id, call);
    running++;
    requestBytes += request.length;
    const context = createContext(call, principal, timeoutMs);
    const refuse = (error: unknown): void => endBadly(call, error, path, context);
    try {
      const admission = options.admit?.(principal, route.method);
      if (admission === undefined) handle(call, route, request, context);
      else admission.then(() => handle(call, route, request, context)).catch(refuse);
    } catch (error) {
      refuse(error);
    }
  }

  /** The route of a call, or a throw when it can't be taken on. Nothing of its request has been looked at. */
  function accept(path: string, request: Uint8Array): Route<P> {
    const route = routes.find(path);
    if (route === undefined) throw unimplemented(path);
    if (running >= maxCalls) throw new ConnectError(`more than ${maxCalls} calls at once`, Code.ResourceExhausted);
    if (requestBytes + request.length > maxRequestBytes) {
      throw new ConnectError("the calls under way hold too many bytes", Code.ResourceExhausted);
    }
    return route;
  }

  /** Runs the handler of a call. A throw means that it has not run. */
  function handle(call: Call, route: Route<P>, request: Uint8Array, context: CallContext<P>): void {
    if (call.over) {
      release(call);
      return;
    }
    const message = decodeRequest(route.path, route.method.input, request, route.limits);
    if (route.kind === "stream") {
      pump(call, route, message, context).then(
        () => release(call),
        (error) => endBadly(call, error, route.path, context),
      );
      return;
    }
    const failed = (error: unknown): void => endBadly(call, error, route.path, context);
    const answer = (value: Parameters<typeof encodeMessage>[1]): void => {
      try {
        if (!call.over) sendLast(call, checked(encodeMessage(route.method.output, value)));
        release(call);
      } catch (error) {
        failed(error);
      }
    };
    route.handle(message, context).then(answer, failed);
  }

  /** Moves a handler's messages to the stream as far as there is credit and room. */
  async function pump(
    call: Call,
    route: Route<P> & { kind: "stream" },
    message: Message,
    context: CallContext<P>,
  ): Promise<void> {
    const iterator = route.handle(message, context)[Symbol.asyncIterator]();
    // Not awaited: a handler that hangs in spite of its aborted signal would hold this up.
    call.stop = () => void iterator.return?.()?.then(ignore, ignore);
    try {
      let step = await iterator.next();
      let ahead: Promise<typeof step> | undefined;
      if (!step.done && !call.over) {
        const answer = checked(encodeMessage(route.method.output, step.value));
        // An answer of one message leaves as one frame, if its end is known before the write would happen anyway.
        ahead = iterator.next();
        const next = await endOfTurn(ahead);
        if (call.over) return;
        if (next?.done) {
          sendLast(call, answer);
          return;
        }
        sendMessage(call, answer);
        step = await ahead;
      }
      for (let sent = 1; !step.done && !call.over; sent++) {
        const answer = checked(encodeMessage(route.method.output, step.value));
        await room(call);
        if (call.over) return;
        sendMessage(call, answer);
        // A handler that always has more at once must not keep the event loop to itself.
        if (sent % BURST === 0) await setImmediate();
        await room(call);
        if (call.over) return;
        step = await iterator.next();
      }
      end(call, undefined);
    } finally {
      call.stop();
    }
  }

  function sendMessage(call: Call, { bytes, room, sent }: Encoded): void {
    call.credit -= creditCost(bytes.length);
    writer.send(call.id, Kind.Message, undefined, bytes, room, sent);
  }

  /** The answer's end. The call keeps its place while its client is behind, or answers that nobody reads would pile up. */
  function sendLast(call: Call, { bytes, room, sent }: Encoded): void {
    if (stream.writableLength + bytes.length <= BACKLOG) {
      writer.send(call.id, Kind.Last, undefined, bytes, room, sent);
    } else {
      call.holds++;
      unwritten.add(call);
      const left = (): void => {
        sent?.();
        written(call);
      };
      writer.send(call.id, Kind.Last, undefined, bytes, room, left);
    }
    finish(call);
    holdBack(HARD_BACKLOG);
  }

  function written(call: Call): void {
    if (unwritten.delete(call)) release(call);
  }

  /** Waits until the call may send; also ends when the call is over. */
  async function room(call: Call): Promise<void> {
    while (!call.over && (call.credit <= 0 || backedUp(BACKLOG))) {
      stall.begin();
      call.unreadSince = call.credit <= 0 ? performance.now() : undefined;
      await new Promise<void>((resolve) => {
        call.wake = resolve;
        if (call.credit > 0) waiting.add(call);
      });
      call.unreadSince = undefined;
    }
  }

  /** Ends streams of which the client has taken nothing for too long; returns whether any is waiting still. */
  function endUnread(now: number): boolean {
    let left = false;
    for (const call of open.values()) {
      if (call.unreadSince === undefined) continue;
      // What is on its way to a slow client can't have been consumed.
      if (stream.writableLength > 0) call.unreadSince = now;
      if (now - call.unreadSince >= unreadTimeoutMs) end(call, unreadFor(unreadTimeoutMs));
      else left = unreadTimeoutMs < Number.POSITIVE_INFINITY;
    }
    return left;
  }

  /** Whether more than `bytes` wait to be written, and a drain will tell when they don't any more. */
  function backedUp(bytes: number): boolean {
    return stream.writableLength > bytes && stream.writableNeedDrain;
  }

  function onDrain(): void {
    if (heldBack) {
      heldBack = false;
      stream.resume();
    }
    const woken = [...waiting];
    waiting.clear();
    for (const call of woken) wake(call);
  }

  /** Watches a client that leaves its answers unread, and in the end stops reading from it. */
  function holdBack(most = BACKLOG): void {
    if (!stream.writableNeedDrain || state === "over") return;
    stall.begin();
    if (heldBack || !backedUp(most)) return;
    heldBack = true;
    stream.pause();
  }

  function checked(answer: Encoded): Encoded {
    if (answer.bytes.length <= maxMessage) return answer;
    const text = `the answer of ${answer.bytes.length} bytes is over the limit of ${maxMessage}; ask for less at once`;
    throw new ConnectError(text, Code.ResourceExhausted);
  }

  /** Ends a call whose handler has failed, or was not let to run. */
  function endBadly(call: Call, error: unknown, path: string, context: CallContext<P>): void {
    // What a handler throws because it was aborted is of no interest to the log.
    end(call, publicError(error, path, context.signal.aborted ? undefined : options.onError));
    release(call);
  }

  /** Ends a call with END, once. */
  function end(call: Call, error: ConnectError | undefined): void {
    if (call.over) return;
    writer.send(call.id, Kind.End, encodeEnd(error));
    finish(call, error);
    holdBack();
  }

  function finish(call: Call, reason?: ConnectError): void {
    call.over = true;
    open.delete(call.id);
    clearTimeout(call.timer);
    if (reason !== undefined) {
      call.abort(reason);
      call.stop?.();
    }
    wake(call);
  }

  function release(call: Call): void {
    if (--call.holds > 0) return;
    running--;
    requestBytes -= call.requestBytes;
    call.done?.();
  }

  return {
    closed,
    get calls() {
      return running;
    },
    close: () => fail(new ConnectError("the server closed the connection", Code.Unavailable)),
  };
}
