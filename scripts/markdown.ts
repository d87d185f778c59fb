export const code = (text: string) => `\`${text}\``;

/** Text as it is meant, in a cell or a sentence of Markdown. */
export function prose(text: string): string {
  return text.replaceAll(/[\\|*<[\]]/g, "\\$&");
}
