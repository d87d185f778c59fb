const perLine = 16;

/**
 * Lines of `address  hex bytes  |ASCII|`, 16 bytes a line. Repeated lines are shown once, followed by `*`, as hexdump
 * does; the last line is always shown.
 */
export function* hexdump(bytes: Uint8Array, address: bigint): Generator<string> {
  let previous = "";
  let skipping = false;
  for (let at = 0; at < bytes.length; at += perLine) {
    const line = bytes.subarray(at, at + perLine);
    const hex = Buffer.from(line).toString("hex");
    const last = at + perLine >= bytes.length;
    if (hex === previous && !last) {
      if (!skipping) yield "*";
      skipping = true;
      continue;
    }
    skipping = false;
    previous = hex;
    yield `${(address + BigInt(at)).toString(16).padStart(16, "0")}  ${grouped(hex)}  |${ascii(line)}|`;
  }
}

function grouped(hex: string): string {
  const bytes = hex.match(/../g) ?? [];
  const half = (from: number) =>
    bytes
      .slice(from, from + perLine / 2)
      .join(" ")
      .padEnd(23);
  return `${half(0)}  ${half(perLine / 2)}`;
}

function ascii(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : ".";
  return text;
}
