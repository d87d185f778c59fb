// Control characters (C0, DEL, C1), format characters (bidirectional overrides, invisible joiners, tags), line and
// paragraph separators, and surrogates without their partner, which is how an invalid UTF-8 byte is carried.
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const unsafe = /[\x00-\x1f\x7f-\x9f\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;

/** Backslashes before what reads as an escape of ours, or becomes one. */
const ambiguous = new RegExp(`\\\\+(?=x[0-9a-f]{2}|u\\{[0-9a-f]+\\}|${unsafe.source})`, "gu");

/**
 * Text that a guest wrote, made harmless for a terminal: nothing in it can move the cursor, colour, retitle, answer
 * for the user or reorder what is shown. Bytes show as `\xNN`, other code points as `\u{N}`. What has gone through it
 * goes through it again unchanged.
 */
export function sanitise(text: string): string {
  return text.replace(unsafe, (character) => {
    const code = character.codePointAt(0)!;
    // An invalid byte b travels as U+DC00+b.
    const byte = code >= 0xdc80 && code <= 0xdcff ? code - 0xdc00 : code;
    return byte <= 0xff ? `\\x${byte.toString(16).padStart(2, "0")}` : `\\u{${byte.toString(16)}}`;
  });
}

/**
 * As sanitise(), for a guest's text as it is, once: no two texts show alike, but for
 * an invalid byte and the control character of its number. A backslash is doubled where it would read as
 * the beginning of an escape, and stays as it is in a pattern or a path of Windows.
 */
export function sanitiseValue(text: string): string {
  return sanitise(text.includes("\\") ? text.replace(ambiguous, "$&$&") : text);
}
