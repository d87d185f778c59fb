/** Texts, names, comments, each to its end or to the end of all, and ';'. */
const tokens =
  /'(?:[^']|'')*(?:'|$)|"(?:[^"]|"")*(?:"|$)|`[^`]*(?:`|$)|\[[^\]]*(?:\]|$)|--[^\n]*|\/\*[\s\S]*?(?:\*\/|$)|;/g;

/** Statements and what is left of the text after the last ';' that ends one: not those in texts, names and comments. */
export function splitStatements(text: string): { statements: string[]; rest: string } {
  const statements: string[] = [];
  let start = 0;
  for (const { 0: token, index } of text.matchAll(tokens)) {
    if (token !== ";") continue;
    const statement = text.slice(start, index).trim();
    if (statement !== "") statements.push(statement);
    start = index + 1;
  }
  return { statements, rest: text.slice(start) };
}

/** The same statements in one line, without comments; undefined where a text or a name goes over a line's end. */
export function inOneLine(text: string): string | undefined {
  const isComment = (token: string) => token.startsWith("--") || token.startsWith("/*");
  if ([...text.matchAll(tokens)].some(([token]) => !isComment(token) && token.includes("\n"))) return undefined;
  const bare = text.replaceAll(tokens, (token) => (isComment(token) ? " " : token));
  return bare.replaceAll(/\s*\n\s*/g, " ").trim();
}
