/** Network addresses as text, straight from memory in network order. */

/** `192.0.2.1` */
export function formatIpv4(bytes: Uint8Array, at: number): string {
  return `${bytes[at]}.${bytes[at + 1]}.${bytes[at + 2]}.${bytes[at + 3]}`;
}

/** As inet_ntop() writes an IPv6 address (RFC 5952): `fe80::1`, `::ffff:192.0.2.1`. */
export function formatIpv6(bytes: Uint8Array, at: number): string {
  let start = -1;
  let longest = 1;
  for (let i = 0, run = 0; i < 8; i++) {
    run = bytes[at + i * 2] === 0 && bytes[at + i * 2 + 1] === 0 ? run + 1 : 0;
    if (run > longest) {
      longest = run;
      start = i - run + 1;
    }
  }
  // ::1 is an address of its own; others that begin with 96 zeros, or are mapped, end in one of IPv4.
  const mapped =
    start === 0 && (longest === 6 || (longest === 5 && bytes[at + 10] === 0xff && bytes[at + 11] === 0xff));
  const groups = mapped ? 6 : 8;
  let text = "";
  for (let i = 0; i < groups; i++) {
    if (i === start) {
      text += "::";
      i += longest - 1;
    } else {
      if (text !== "" && !text.endsWith(":")) text += ":";
      text += ((bytes[at + i * 2]! << 8) | bytes[at + i * 2 + 1]!).toString(16);
    }
  }
  if (!mapped) return text;
  return `${text}${text.endsWith(":") ? "" : ":"}${formatIpv4(bytes, at + 12)}`;
}

/** `02:00:00:00:00:01`; as many bytes as the link has. */
export function formatLinkAddress(bytes: Uint8Array, at: number, length: number): string {
  let text = "";
  for (let i = 0; i < length; i++) text += `${i === 0 ? "" : ":"}${bytes[at + i]!.toString(16).padStart(2, "0")}`;
  return text;
}

/** A number in network order. */
export function networkU16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}
