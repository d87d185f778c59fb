/**
 * Text of bytes from a guest without loss: UTF-8 is decoded, and each byte b that is not part of valid UTF-8 becomes the
 * lone surrogate U+DC00+b (as Python's surrogateescape does), so that different bytes never become the same text.
 */
export function textOf(bytes: Uint8Array): string {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const text = buffer.toString("utf8");
  if (!text.includes("\ufffd")) return text;
  let result = "";
  for (let at = 0; at < buffer.length; ) {
    const length = sequenceLength(buffer, at);
    result += length ? buffer.toString("utf8", at, at + length) : String.fromCharCode(0xdc00 + buffer[at]!);
    at += length || 1;
  }
  return result;
}

/** Length of the valid UTF-8 sequence at `at`, 0 when there is none. */
function sequenceLength(buffer: Buffer, at: number): number {
  const first = buffer[at]!;
  const length = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc2 ? 2 : 0;
  if (length <= 1) return length;
  const part = buffer.subarray(at, at + length);
  const text = part.toString("utf8");
  return part.length === length && Buffer.from(text).equals(part) ? length : 0;
}
