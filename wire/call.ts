// The state of one call at the serving end.
import type { ConnectError } from "@connectrpc/connect";
import { INITIAL_CREDIT } from "./frame.ts";
import type { CallContext } from "./routes.ts";

export interface Call {
  readonly id: number;
  readonly requestBytes: number;
  /** Answered, cancelled or timed out: nothing more is sent. */
  over: boolean;
  credit: number;
  abort: (reason: ConnectError) => void;
  /** Wakes the handler's loop when it waits for room. */
  wake: (() => void) | undefined;
  /** Tells the handler of a stream that nobody listens any more. */
  stop: (() => void) | undefined;
  timer: NodeJS.Timeout | undefined;
  /** Why its place is still taken: its handler runs, its answer waits to be written. */
  holds: number;
  /** Who is told when its place is free. */
  done: (() => void) | undefined;
  /** Since when it has waited for the caller to take what was sent, in ms of the process; undefined when it does not. */
  unreadSince: number | undefined;
}

/** A call whose handler is about to run. */
export function createCall(id: number, requestBytes: number): Call {
  return {
    id,
    requestBytes,
    over: false,
    credit: INITIAL_CREDIT,
    abort: ignore,
    wake: undefined,
    stop: undefined,
    timer: undefined,
    holds: 1,
    done: undefined,
    unreadSince: undefined,
  };
}

/** The context of a call; its signal is made when it is first asked for, which most handlers never do. */
export function createContext<P>(call: Call, principal: P, timeoutMs: number | undefined): CallContext<P> {
  let controller: AbortController | undefined;
  let reason: ConnectError | undefined;
  call.abort = (why) => {
    reason = why;
    controller?.abort(why);
  };
  return {
    principal,
    timeoutMs,
    whenAnswered(done) {
      if (call.holds === 0) {
        done();
        return;
      }
      const before = call.done;
      call.done = () => {
        before?.();
        done();
      };
    },
    get signal() {
      if (controller === undefined) {
        controller = new AbortController();
        if (reason !== undefined) controller.abort(reason);
      }
      return controller.signal;
    },
  };
}

export function wake(call: Call): void {
  const resolve = call.wake;
  call.wake = undefined;
  resolve?.();
}

/** The value of a promise that settles within this turn of the event loop, else undefined. Rejections are left to `promise`. */
export function endOfTurn<T>(promise: Promise<T>): Promise<T | undefined> {
  return new Promise((resolve) => {
    promise.then(resolve, () => resolve(undefined));
    process.nextTick(resolve, undefined);
  });
}

export function ignore(): void {}
