// The calling end of one streamed answer.
import { Code, ConnectError } from "@connectrpc/connect";
import { creditCost, INITIAL_CREDIT } from "./frame.ts";
import { watchForEnd } from "./give-up.ts";
import type { Session } from "./session.ts";

export interface StreamCall {
  connected(): Session | Promise<Session>;
  readonly path: string;
  /** Encodes the request; may throw. */
  request(): Uint8Array;
  readonly maxMessage: number;
  readonly signal: AbortSignal | undefined;
  readonly timeoutMs: number | undefined;
}

type Result = IteratorResult<Uint8Array, undefined>;

/** Consumed bytes that are worth telling the server about. */
const CREDIT_STEP = INITIAL_CREDIT / 4;
/** After which it is told of less too, in ms: a server takes whoever consumes nothing for someone who does not read. */
const CREDIT_AFTER_MS = 10_000;
/** Consumed bytes between two looks at the clock. */
const LOOK_STEP = CREDIT_STEP / 16;
/** A message below this size is copied before it waits, so that it doesn't keep the whole chunk it came in. */
const COPY_BELOW = 4096;
const DONE: Result = { done: true, value: undefined };

/** The messages of an answer. Each loop over it is a call of its own, begun by its first `next`. */
export function streamAnswer(call: StreamCall): AsyncIterable<Uint8Array> {
  return { [Symbol.asyncIterator]: () => iterate(call) };
}

function iterate(call: StreamCall): AsyncIterator<Uint8Array, undefined> {
  const waiters: { resolve: (result: Result) => void; reject: (error: ConnectError) => void }[] = [];
  let queue: Uint8Array[] = [];
  let head = 0;
  /** Credit that what is queued has cost. */
  let queued = 0;
  let consumed = 0;
  /** When the server was last told, and how much must be consumed before that matters. */
  let toldAt = 0;
  let nextLook = LOOK_STEP;
  let started = false;
  let ended = false;
  let error: ConnectError | undefined;
  let session: Session | undefined;
  let id = 0;
  let unwatch = (): void => {};

  function start(): void {
    started = true;
    unwatch = watchForEnd(call.signal, call.timeoutMs, giveUp);
    if (ended) return;
    try {
      const request = call.request();
      const found = call.connected();
      if (found instanceof Promise) found.then((live) => begin(live, request)).catch(failed);
      else begin(found, request);
    } catch (thrown) {
      failed(thrown);
    }
  }

  function failed(thrown: unknown): void {
    end(ConnectError.from(thrown, Code.Unavailable));
  }

  function begin(live: Session, request: Uint8Array): void {
    if (ended) return;
    session = live;
    toldAt = performance.now();
    id = live.open(call.path, call.timeoutMs, request, { message, end });
  }

  function message(bytes: Uint8Array): boolean {
    const cost = creditCost(bytes.length);
    const waiter = waiters.shift();
    if (waiter !== undefined) {
      consume(cost);
      waiter.resolve({ done: false, value: bytes });
      return true;
    }
    queued += cost;
    if (queued > INITIAL_CREDIT + creditCost(call.maxMessage)) return false;
    queue.push(bytes.length < COPY_BELOW ? bytes.slice() : bytes);
    return true;
  }

  function consume(cost: number): void {
    consumed += cost;
    if (consumed < nextLook) return;
    const now = performance.now();
    if (consumed < CREDIT_STEP && now - toldAt < CREDIT_AFTER_MS) {
      nextLook = consumed + LOOK_STEP;
      return;
    }
    session?.credit(id, consumed);
    toldAt = now;
    consumed = 0;
    nextLook = LOOK_STEP;
  }

  function end(reason: ConnectError | undefined): void {
    if (ended) return;
    ended = true;
    error = reason;
    unwatch();
    for (const waiter of waiters.splice(0)) {
      // The first learns why it ended, the rest that it did.
      if (error === undefined) waiter.resolve(DONE);
      else waiter.reject(error);
      error = undefined;
    }
  }

  /** Ends the call from this side; what has not been consumed is lost. */
  function giveUp(reason: ConnectError | undefined): void {
    queue = [];
    head = 0;
    end(reason);
    session?.cancel(id);
  }

  return {
    next() {
      if (!started) start();
      if (head < queue.length) {
        const value = queue[head] as Uint8Array;
        head++;
        if (head === queue.length || head >= 1024) {
          queue = queue.slice(head);
          head = 0;
        }
        const cost = creditCost(value.length);
        queued -= cost;
        consume(cost);
        return Promise.resolve({ done: false, value });
      }
      if (ended) {
        const reason = error;
        error = undefined;
        return reason === undefined ? Promise.resolve(DONE) : Promise.reject(reason);
      }
      return new Promise((resolve, reject) => waiters.push({ resolve, reject }));
    },
    return() {
      started = true;
      giveUp(undefined);
      return Promise.resolve(DONE);
    },
  };
}
