import type { TableSpec } from "../sdk/index.ts";
import { splitStatements } from "./sql-statements.ts";

const keywords =
  "SELECT FROM WHERE JOIN LEFT RIGHT FULL ON USING GROUP BY ORDER HAVING LIMIT OFFSET DISTINCT AND OR NOT IN IS NULL LIKE GLOB " +
  "BETWEEN AS CASE WHEN THEN ELSE END UNION ALL EXCEPT INTERSECT WITH EXISTS ASC DESC CAST COUNT MIN MAX SUM AVG EXPLAIN";
const allKeywords = keywords.split(" ");
const commands = [".help", ".tables", ".schema", ".quit"];

/** What the last word of a statement, or of a command, may become, and that word: as readline wants it. */
export function completions(specs: readonly TableSpec[], text: string): [string[], string] {
  // Of several statements the last is meant.
  const line = splitStatements(text).rest;
  const command = /^\s*(\.\w*)$/.exec(line)?.[1];
  if (command !== undefined) return [beginning(commands, command), command];
  const word = /[\w.]*$/.exec(line)?.[0] ?? "";
  const tables = specs.map(({ name }) => name);
  if (/^\s*\.schema\s/.test(line) || /\b(?:from|join)\s+\w*$/i.test(line)) return [beginning(tables, word), word];
  const words = new Set(line.toLowerCase().match(/\w+/g));
  const named = specs.filter(({ name }) => words.has(name));
  const columns = (some: readonly TableSpec[]) => [
    "vm",
    ...some.flatMap((spec) => spec.columns.map(({ name }) => name)),
  ];
  const dot = word.lastIndexOf(".");
  if (dot >= 0) {
    const qualifier = word.slice(0, dot + 1);
    const found = beginning(columns(aliased(specs, line, word.slice(0, dot)) ?? named), word.slice(dot + 1));
    return [found.map((name) => `${qualifier}${name}`), word];
  }
  if (word === "") return [[], word];
  const lower = word === word.toLowerCase();
  const language = lower ? allKeywords.map((keyword) => keyword.toLowerCase()) : allKeywords;
  const among = columns(named.length > 0 ? named : specs);
  return [beginning([...among, ...tables, ...language], word), word];
}

/** The table that is called so, or has this alias. */
function aliased(specs: readonly TableSpec[], line: string, alias: string): TableSpec[] | undefined {
  // Each word with the one after it, but for AS.
  const pairs = [...line.matchAll(/\b(\w+)\s+(?:as\s+)?(?=(\w+))/gi)];
  const same = (one: string, other: string | undefined) => one.toLowerCase() === other?.toLowerCase();
  const found = specs.filter(
    ({ name }) => same(name, alias) || pairs.some(([, before, after]) => same(name, before) && same(alias, after)),
  );
  return found.length > 0 ? found : undefined;
}

/** SQL knows no case: what is completed is written as it is called. */
function beginning(names: readonly string[], word: string): string[] {
  const lower = word.toLowerCase();
  return [...new Set(names)].filter((name) => name.toLowerCase().startsWith(lower)).sort();
}
