import { HEADER_BYTES } from "./frame.ts";

/** An answer or a request that is already encoded as protobuf: passed through unread. */
export class Encoded {
  readonly bytes: Uint8Array;
  /**
   * Bytes before `bytes` in its buffer that may be overwritten. With room for a frame's header, a large message leaves as
   * one buffer: a TLS socket would copy two together first.
   */
  readonly room: number;

  constructor(bytes: Uint8Array, room = 0) {
    this.bytes = bytes;
    this.room = room;
  }

  /** A message as a session has delivered it, to be passed on: what was its frame's header is room. */
  static received(bytes: Uint8Array): Encoded {
    return new Encoded(bytes, HEADER_BYTES);
  }
}
