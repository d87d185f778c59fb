import { GuestError } from "../errors.ts";

/** Bytes of one value's text; more is not believed. */
const MAX_TEXT = 4 << 20;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const [COLON, COMMA] = [0x3a, 0x2c];
const [OPEN, CLOSE, OPEN_LIST, CLOSE_LIST] = [0x7b, 0x7d, 0x5b, 0x5d];

/** Goes through the JSON text of an ISF member by member. Throws GuestError "bad-request" when it is none. */
export class Scanner {
  readonly #text: Uint8Array;
  #at = 0;

  constructor(text: Uint8Array) {
    this.#text = text;
  }

  /** Calls `visit` before each member's value, which it has to pass. */
  members(visit: (name: string) => void): void {
    this.#take(OPEN);
    if (this.#next() === CLOSE) {
      this.#at++;
      return;
    }
    for (;;) {
      const name: unknown = this.value();
      if (typeof name !== "string") throw damaged();
      this.#take(COLON);
      visit(name);
      if (this.#next() === CLOSE) break;
      this.#take(COMMA);
    }
    this.#at++;
  }

  value(): unknown {
    const text = this.text();
    try {
      return JSON.parse(text);
    } catch {
      throw damaged();
    }
  }

  /** The text of a value, which is passed: JSON's numbers lose what is beyond 2^53. */
  text(): string {
    this.#next();
    const start = this.#at;
    this.skip();
    if (this.#at - start > MAX_TEXT) throw damaged();
    return Buffer.from(this.#text.buffer, this.#text.byteOffset + start, this.#at - start).toString();
  }

  skip(): void {
    let depth = 0;
    this.#next();
    const text = this.#text;
    for (; this.#at < text.length; this.#at++) {
      const byte = text[this.#at];
      if (byte === QUOTE) {
        for (this.#at++; text[this.#at] !== QUOTE; this.#at++) {
          if (this.#at >= text.length) throw damaged();
          if (text[this.#at] === BACKSLASH) this.#at++;
        }
      } else if (byte === OPEN || byte === OPEN_LIST) depth++;
      else if (byte === CLOSE || byte === CLOSE_LIST) {
        // What closes the object around a number.
        if (depth === 0) return;
        depth--;
      } else if (depth > 0 || (byte !== COMMA && byte !== COLON && byte! > 0x20)) continue;
      else return;
      if (depth === 0 && byte !== OPEN && byte !== OPEN_LIST) {
        this.#at++;
        return;
      }
    }
    throw damaged();
  }

  /** The next byte that is not white space, which is not passed. */
  #next(): number {
    while (this.#at < this.#text.length && this.#text[this.#at]! <= 0x20) this.#at++;
    return this.#text[this.#at] ?? 0;
  }

  #take(byte: number): void {
    if (this.#next() !== byte) throw damaged();
    this.#at++;
  }
}

export function recordOf(value: unknown): Record<string, unknown> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw damaged();
}

export function damaged(): GuestError {
  return new GuestError("bad-request", "the types that were supplied are a damaged ISF, or no ISF at all");
}
