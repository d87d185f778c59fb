import type { Integer } from "../bytes/integer.ts";

/** Whether a text is one of those that a key column must be; any will do when `wanted` is undefined. */
export function isWanted(wanted: ReadonlySet<string> | undefined, text: Uint8Array | string | undefined): boolean {
  if (wanted === undefined) return true;
  return text !== undefined && wanted.has(typeof text === "string" ? text : Buffer.from(text).toString());
}

/** The same of a number. One beyond 2^53 is wanted when one near it is: the rows' own filter is exact. */
export function isWantedNumber(wanted: ReadonlySet<number> | undefined, value: Integer | undefined): boolean {
  return wanted === undefined || (value !== undefined && wanted.has(Number(value)));
}
