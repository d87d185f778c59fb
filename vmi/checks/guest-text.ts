/** Longer texts are cut: a path can have 4 KiB, a command line more. */
const MAX_LENGTH = 1024;

/** Text in which everything but printable ASCII is `\x` and two digits, or `\u{…}`, as a guest may have put a terminal's commands there. */
export function printable(text: string): string {
  const plain = text.replaceAll(/[^\x20-\x7e]/gu, (character) => {
    const code = character.codePointAt(0)!.toString(16);
    return code.length <= 2 ? `\\x${code.padStart(2, "0")}` : `\\u{${code}}`;
  });
  return plain.length <= MAX_LENGTH ? plain : `${plain.slice(0, MAX_LENGTH)}...`;
}
