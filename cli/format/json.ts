/** What a command may hand to `--json`; a cell of a table is one too. */
export type JsonInput =
  | string
  | number
  | bigint
  | boolean
  | null
  | Uint8Array
  | readonly JsonInput[]
  | { readonly [key: string]: JsonInput | undefined };

/** Integers beyond 2^53 become strings (JSON readers would round them), bytes become hexadecimal. */
function replaced(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") {
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : value.toString();
  }
  return value instanceof Uint8Array ? Buffer.from(value).toString("hex") : value;
}

/**
 * One line of JSON. Well-formed whatever a guest wrote: an invalid UTF-8 byte b, carried as the lone surrogate
 * U+DC00+b, is written as its escape `\udcXX`. DEL and C1 controls, which JSON allows, are escaped too, so that the
 * output is harmless on a terminal.
 */
export function toJson(value: JsonInput): string {
  return JSON.stringify(value, replaced).replace(/[\x7f-\x9f\p{Cf}\u2028\u2029]/gu, (character) =>
    [...Array(character.length).keys()]
      .map((at) => `\\u${character.charCodeAt(at).toString(16).padStart(4, "0")}`)
      .join(""),
  );
}

/** An array with one row a line: valid JSON that grep, diff and head can also work with. */
export function* jsonLines(rows: Iterable<JsonInput>): Generator<string> {
  let separator = "[\n";
  for (const row of rows) {
    yield `${separator}${toJson(row)}`;
    separator = ",\n";
  }
  yield separator === "[\n" ? "[]\n" : "\n]\n";
}
