// How many terminal cells a text takes. Ranges follow East Asian Width W and F of Unicode's EastAsianWidth.txt.
const zeroWidth = /^[\p{Mn}\p{Me}]$/u;
const wide =
  /^(?:\p{Emoji_Presentation}|[\u1100-\u115f\u2e80-\u303e\u3041-\u33ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1b000}-\u{1b2ff}\u{20000}-\u{3fffd}])$/u;
// Most cells are plain ASCII: their width is their length.
const plain = /^[\x20-\x7e]*$/;

/** The terminal cells of one code point. */
function cellsOf(character: string): number {
  if (character <= "~") return 1;
  if (zeroWidth.test(character)) return 0;
  return wide.test(character) ? 2 : 1;
}

/** The terminal cells that `text` takes; it must hold no control characters (see sanitise). */
export function widthOf(text: string): number {
  if (plain.test(text)) return text.length;
  let cells = 0;
  for (const character of text) cells += cellsOf(character);
  return cells;
}

/** `text` cut to at most `cells`, ending in … when something was cut off. */
export function truncate(text: string, cells: number): string {
  if (widthOf(text) <= cells) return text;
  let kept = "";
  let used = 0;
  for (const character of text) {
    const width = cellsOf(character);
    if (used + width > cells - 1) break;
    kept += character;
    used += width;
  }
  return `${kept}…`;
}

/** `text` filled up with spaces to `cells`. */
export function pad(text: string, cells: number, side: "left" | "right"): string {
  const fill = " ".repeat(Math.max(0, cells - widthOf(text)));
  return side === "left" ? text + fill : fill + text;
}
