import { isUtf8 } from "node:buffer";
import { Code, ConnectError } from "@connectrpc/connect";

/**
 * Bytes of a guest as a string: UTF-8 where it is valid; each other byte b as the lone surrogate U+DC00+b, as Python's
 * `surrogateescape` has it. Nothing is lost: `textToBytes` gives the same bytes back.
 */
export function bytesToText(bytes: Uint8Array): string {
  return sliceToText(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength), 0, bytes.byteLength);
}

/** `bytesToText` of a part of a buffer. */
export function sliceToText(buffer: Buffer, start: number, end: number): string {
  let at = start;
  while (at < end && (buffer[at] as number) < 0x80) at++;
  if (at === end) return buffer.toString("latin1", start, end);
  const part = buffer.subarray(start, end);
  return isUtf8(part) ? part.toString("utf8") : escapeInvalid(part);
}

/** Longer parts of a string would keep all of it in memory (V8: SlicedString::kMinLength). */
const COPIED = 12;

/** `bytesToText` of many parts of one region: most are short, and asking the runtime for each costs several times what copying does. */
export function textsOf(buffer: Buffer, start: number, end: number): (from: number, to: number) => string {
  let whole: string | undefined;
  return (from, to) => {
    if (to - from > COPIED) return sliceToText(buffer, from, to);
    for (let at = from; at < to; at++) if ((buffer[at] as number) >= 0x80) return sliceToText(buffer, from, to);
    whole ??= buffer.toString("latin1", start, end);
    return whole.substring(from - start, to - start);
  };
}

/** The bytes that `bytesToText` made a string of. Throws InvalidArgument for lone surrogates that stand for no byte. */
export function textToBytes(text: string): Uint8Array<ArrayBuffer> {
  if (text.isWellFormed()) return new TextEncoder().encode(text);
  const parts: Uint8Array[] = [];
  let size = 0;
  const add = (part: Uint8Array): void => {
    parts.push(part);
    size += part.length;
  };
  // Runs of what is well-formed, with lone surrogates between them.
  for (const [run] of text.matchAll(/\p{Surrogate}|\P{Surrogate}+/gu)) {
    const unit = run.charCodeAt(0);
    if (unit < 0xd800 || unit > 0xdfff || run.length > 1) add(new TextEncoder().encode(run));
    else if (unit >= 0xdc80 && unit <= 0xdcff) add(Uint8Array.of(unit - 0xdc00));
    else throw new ConnectError(`U+${unit.toString(16).toUpperCase()} stands for no byte`, Code.InvalidArgument);
  }
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function escapeInvalid(bytes: Buffer): string {
  let text = "";
  let at = 0;
  while (at < bytes.length) {
    const length = sequenceLength(bytes, at);
    if (length === 0) {
      text += String.fromCharCode(0xdc00 + (bytes[at] as number));
      at++;
    } else {
      text += bytes.toString("utf8", at, at + length);
      at += length;
    }
  }
  return text;
}

/** The length of the valid UTF-8 sequence at `at`; 0 when there is none. */
function sequenceLength(bytes: Buffer, at: number): number {
  const lead = bytes[at] as number;
  if (lead < 0x80) return 1;
  const length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  return at + length <= bytes.length && isUtf8(bytes.subarray(at, at + length)) ? length : 0;
}
