/** Statements and what is left of the text after the last ';' that ends one: not those in texts, names and comments. */
export function splitStatements(text: string): { statements: string[]; rest: string } {
  const statements: string[] = [];
  let start = 0;
  // What a ';' may stand in, to its end or to the end of the text.
  for (const { 0: token, index } of text.matchAll(
    /'(?:[^']|'')*(?:'|$)|"(?:[^"]|"")*(?:"|$)|`[^`]*(?:`|$)|\[[^\]]*(?:\]|$)|--[^\n]*|\/\*[\s\S]*?(?:\*\/|$)|;/g,
  )) {
    if (token !== ";") continue;
    const statement = text.slice(start, index).trim();
    if (statement !== "") statements.push(statement);
    start = index + 1;
  }
  return { statements, rest: text.slice(start) };
}
