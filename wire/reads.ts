// Reads of a socket into one buffer that serves again and again. A new buffer for each read keeps the garbage collector
// busier than the reading.
import type { OnReadOpts } from "node:net";
import type { Duplex } from "node:stream";

/** As much as the system hands over at once. */
const READ_BYTES = 64 * 1024;

type Listener = (bytes: Uint8Array) => void;

export interface ReusedReads {
  /** For `net.connect` or `tls.connect`, among the others (the types of the latter do not know it). */
  readonly options: object;
  /** To be called with the socket that was made with them, before a session begins on it. */
  bind(socket: Duplex): void;
}

const sources = new WeakMap<Duplex, (listener: Listener) => void>();

export function reusedReads(): ReusedReads {
  let listener: Listener | undefined;
  /** What came before a session listened. */
  let early: Uint8Array[] = [];
  const onread: OnReadOpts = {
    buffer: Buffer.allocUnsafeSlow(READ_BYTES),
    callback(length, buffer) {
      const bytes = buffer.subarray(0, length);
      if (listener === undefined) early.push(Uint8Array.from(bytes));
      else listener(bytes);
      return true;
    },
  };
  return {
    options: { onread },
    bind(socket) {
      sources.set(socket, (to) => {
        listener = to;
        for (const bytes of early) to(bytes);
        early = [];
      });
    },
  };
}

/** Hears what arrives. Returns true when the bytes are good only until the listener returns. */
export function listenTo(stream: Duplex, listener: Listener): boolean {
  const source = sources.get(stream);
  if (source === undefined) {
    stream.on("data", listener);
    return false;
  }
  source(listener);
  // Only so that the end is heard: there is no other data.
  stream.resume();
  return true;
}
