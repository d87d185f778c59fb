import { Code, ConnectError } from "@connectrpc/connect";

/** Calls `giveUp` when the signal aborts or the time is up, at once if it has aborted already. Returns how to stop watching. */
export function watchForEnd(
  signal: AbortSignal | undefined,
  timeoutMs: number | undefined,
  giveUp: (error: ConnectError) => void,
): () => void {
  if (signal === undefined && timeoutMs === undefined) return nothing;
  if (signal?.aborted) {
    giveUp(abortedBy(signal));
    return nothing;
  }
  const onAbort = (): void => giveUp(abortedBy(signal));
  const onTimeout = (): void => giveUp(tookTooLong());
  // Node's timers take 31 bits.
  const timer = timeoutMs === undefined ? undefined : setTimeout(onTimeout, Math.min(timeoutMs, 0x7fffffff));
  signal?.addEventListener("abort", onAbort);
  return () => {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  };
}

export function tookTooLong(): ConnectError {
  return new ConnectError("the call took too long", Code.DeadlineExceeded);
}

/** For a streamed answer whose caller takes nothing of it. */
export function unreadFor(ms: number): ConnectError {
  return new ConnectError(`nothing of the answer was read for ${ms / 1000} s: read it sooner`, Code.ResourceExhausted);
}

function abortedBy(signal: AbortSignal | undefined): ConnectError {
  const reason: unknown = signal?.reason;
  // A handler that passes its own signal on: the end of its deadline stays a deadline.
  if (reason instanceof ConnectError) return reason;
  if (reason instanceof DOMException && reason.name === "TimeoutError") return tookTooLong();
  return new ConnectError("the call was cancelled", Code.Canceled);
}

function nothing(): void {}
