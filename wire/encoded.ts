import { HEADER_BYTES } from "./frame.ts";

/** An answer or a request that is already encoded as protobuf: passed through unread. */
export class Encoded {
  readonly bytes: Uint8Array;
  /**
   * Bytes before `bytes` in its buffer that may be overwritten. With room for a frame's header, a large message leaves as
   * one buffer: a TLS socket would copy two together first.
   */
  readonly room: number;
  /** Called once the bytes have left, or never will: the buffer may be used again. Not called for a message that is never sent. */
  readonly sent: (() => void) | undefined;

  constructor(bytes: Uint8Array, room = 0, sent?: () => void) {
    this.bytes = bytes;
    this.room = room;
    this.sent = sent;
  }

  /** A message as a session has delivered it, to be passed on: what was its frame's header is room. */
  static received(bytes: Uint8Array, sent?: () => void): Encoded {
    return new Encoded(bytes, HEADER_BYTES, sent);
  }
}
