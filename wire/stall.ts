// Clients that do not read.
import type { Duplex } from "node:stream";

export interface StallWatch {
  /** Something waits for the client: it is looked after from now on, until nothing does. Costs nothing when repeated. */
  begin(): void;
  end(): void;
}

export interface StallOptions {
  /** How long a client may take nothing, in ms. */
  readonly timeoutMs: number;
  /** How often it is looked at, in ms. */
  readonly everyMs: number;
  /** Bytes have waited to be written for `timeoutMs`, and the client has taken none of them. One that is slow goes on. */
  onStall(): void;
  /** Whether anything else waits for the client, as of `now` (performance.now). */
  onLook(now: number): boolean;
}

/** Looks after a client only while something waits for it: no timer runs for one that reads. */
export function watchForStall(stream: Duplex, { timeoutMs, everyMs, onStall, onLook }: StallOptions): StallWatch {
  let timer: NodeJS.Timeout | undefined;
  let unsent = 0;
  let queued = 0;
  let drained = false;
  let takenAt = 0;
  let lookedAt = 0;
  stream.on("drain", () => {
    drained = true;
  });

  function look(): void {
    timer = undefined;
    const now = performance.now();
    const before = { unsent, queued };
    measure();
    if (drained || unsent < before.unsent || queued < before.queued) takenAt = now;
    drained = false;
    // Whoever was stopped itself knows nothing of its clients.
    const late = now - lookedAt > 2 * everyMs;
    if (late) takenAt = now;
    if (unsent > 0 && now - takenAt >= timeoutMs) {
      onStall();
      return;
    }
    if (late || onLook(now) || unsent > 0) arm(now);
  }

  function measure(): void {
    unsent = stream.writableLength;
    queued = queuedBelow(stream);
  }

  function arm(now: number): void {
    lookedAt = now;
    timer = setTimeout(look, everyMs).unref();
  }

  return {
    begin() {
      if (timer !== undefined) return;
      measure();
      drained = false;
      takenAt = performance.now();
      arm(takenAt);
    },
    end() {
      clearTimeout(timer);
    },
  };
}

/**
 * Bytes of a socket that the system has not taken yet; below TLS, encrypted. Of one large write, which is one piece to
 * the stream, only this tells that it proceeds. Node's own timeouts of sockets look at it for the same reason.
 */
function queuedBelow(stream: Duplex): number {
  let bottom: object | undefined;
  for (let next: unknown = Reflect.get(stream, "_handle"); isObject(next); next = Reflect.get(next, "_parent")) {
    bottom = next;
  }
  const size: unknown = bottom && Reflect.get(bottom, "writeQueueSize");
  return typeof size === "number" ? size : 0;
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}
