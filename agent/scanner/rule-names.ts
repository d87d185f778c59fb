/** What a file of YARA rules declares, as far as it has to be known before it is compiled. */
export interface Declared {
  /** Identifiers of its rules, in order. */
  readonly rules: readonly string[];
  /** It has a global rule, which decides over every other rule of its namespace. */
  readonly global: boolean;
}

/**
 * Words, and what may hold braces or words that are none: comments, texts, regular expressions (which follow `=`, `(`, `,`
 * or `matches`). A file that is written wrongly gives some nonsense; the compiler refuses it then.
 */
const token =
  /\/\/[^\n]*|\/\*[\s\S]*?\*\/|"(?:\\.|[^"\\\n])*"|(?<=(?:[=(,]|\bmatches)\s*)\/(?![*/])(?:\\.|[^/\\\n])+\/[a-z]*|[A-Za-z_]\w*|[{}]/g;

export function declaredIn(source: string): Declared {
  const rules: string[] = [];
  let global = false;
  let depth = 0;
  let before = "";
  for (const [text] of source.matchAll(token)) {
    if (text === "{") depth++;
    else if (text === "}") depth = Math.max(0, depth - 1);
    else if (depth === 0 && /^\w/.test(text)) {
      if (before === "rule") rules.push(text);
      else if (text === "global") global = true;
      before = text;
    }
  }
  return { rules, global };
}
