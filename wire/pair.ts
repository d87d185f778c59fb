import { type Duplex, duplexPair } from "node:stream";

/**
 * Two ends of a connection within this process. What is written is copied, as a socket does: a writer may use its buffer
 * again as soon as it has left, while the reader still holds what came of it.
 */
export function connectedPair(): [Duplex, Duplex] {
  const ends = duplexPair() as [Duplex, Duplex];
  for (const end of ends) {
    const pass = end._write;
    end._write = (chunk: Uint8Array, encoding, done) => pass.call(end, Buffer.from(chunk), encoding, done);
  }
  return ends;
}
