import { sanitise } from "../format/sanitise.ts";
import { widthOf } from "../format/width.ts";
import type { Disassemble } from "./disassembly.ts";
import { cell, type FindingRow, type Severity, severities, severityOf } from "./finding.ts";

export interface ReportStyle {
  /** Terminal cells that a line may take. */
  readonly width: number;
  readonly colour: boolean;
  /** For findings that have code. */
  readonly disassemble: Disassemble | undefined;
}

/** Instructions that are shown of a piece of code. */
const INSTRUCTIONS = 8;
const TITLES = 11;

const colours: Record<Severity, number> = { critical: 31, high: 31, medium: 33, low: 36, info: 2 };

/** Findings for people: grouped by severity, worst first, and by check. */
export function* reportLines(rows: readonly FindingRow[], style: ReportStyle): Generator<string> {
  let first = true;
  for (const severity of severities) {
    const group = rows.filter((row) => severityOf(row) === severity);
    if (group.length === 0) continue;
    if (!first) yield "";
    first = false;
    const title = `${severity.toUpperCase()} (${group.length})`;
    yield style.colour ? `\x1b[1;${colours[severity]}m${title}\x1b[22;39m` : title;
    const byCheck = Map.groupBy(group, (row) => `${cell(row, "vm")}\0${cell(row, "check_name")}`);
    for (const found of byCheck.values()) {
      for (const row of found) yield* severity === "info" ? briefly(row, style) : atLength(row, style);
    }
  }
}

/** The VM where several are asked, and the check. */
const origin = (row: FindingRow) => [cell(row, "vm"), cell(row, "check_name")].filter((text) => text !== "").join(", ");

function* briefly(row: FindingRow, { width }: ReportStyle): Generator<string> {
  yield* titled(`  ${sanitise(origin(row))}: `, cell(row, "what"), width, 4);
}

function* atLength(row: FindingRow, style: ReportStyle): Generator<string> {
  const { width, colour } = style;
  const [head, ...more] = wrapped(sanitise(cell(row, "what")), width - 2);
  yield `  ${colour ? `\x1b[1m${head}\x1b[22m` : head}`;
  for (const line of more) yield `  ${line}`;
  yield* property("check", origin(row), width);
  for (const [title, column] of [
    ["where", "place"],
    ["evidence", "evidence"],
    ["expected", "expected"],
  ] as const) {
    const text = cell(row, column);
    if (text !== "") yield* property(title, text, width);
  }
  const address = cell(row, "address");
  if (address !== "") yield* property("leads to", described(address, row), width);
  yield* code("found", cell(row, "code"), row, style);
  yield* code("original", cell(row, "original_code"), row, style);
}

function described(address: string, row: FindingRow): string {
  const symbol = cell(row, "symbol");
  const module = cell(row, "module");
  if (symbol === "" && module === "") return `${address}, in no code of the kernel or its modules that is known`;
  return `${address}${symbol === "" ? "" : `, ${symbol}`}${module === "" ? "" : ` of module ${module}`}`;
}

function* property(title: string, text: string, width: number): Generator<string> {
  yield* titled(`    ${title}`.padEnd(4 + TITLES), text, width, 4 + TITLES);
}

function* titled(title: string, text: string, width: number, indent: number): Generator<string> {
  const room = Math.max(20, width - Math.max(widthOf(title), indent));
  const [head = "", ...more] = wrapped(sanitise(text), room);
  yield `${title}${head}`;
  for (const line of more) yield " ".repeat(indent) + line;
}

function* code(title: string, bytes: string, row: FindingRow, style: ReportStyle): Generator<string> {
  const at = cell(row, "code_address");
  if (!/^(?:[\da-f]{2})+$/.test(bytes) || !/^0x[\da-f]{1,16}$/.test(at) || style.disassemble === undefined) return;
  const all = Buffer.from(bytes, "hex");
  const shown = style.disassemble(BigInt(at), all, INSTRUCTIONS);
  const hexed = shown.map((one) => Buffer.from(one.bytes).toString("hex"));
  const column = Math.max(...hexed.map((text) => text.length));
  for (const [i, { address, text }] of shown.entries()) {
    const lead = i === 0 ? `    ${title}`.padEnd(4 + TITLES) : " ".repeat(4 + TITLES);
    yield `${lead}0x${address.toString(16).padStart(16, "0")}  ${hexed[i]!.padEnd(column)}  ${text}`;
  }
  const left = all.length - shown.reduce((sum, one) => sum + one.bytes.length, 0);
  if (left > 0) yield `${" ".repeat(4 + TITLES)}and ${left} more byte${left === 1 ? "" : "s"}`;
}

/** Text in lines of so many cells, broken between words; a word that is longer is broken where it must be. */
export function wrapped(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ").flatMap((each) => pieces(each, width))) {
    if (line !== "" && widthOf(line) + 1 + widthOf(word) > width) {
      lines.push(line);
      line = "";
    }
    line = line === "" ? word : `${line} ${word}`;
  }
  return [...lines, line];
}

/** A word in pieces that fit. */
function pieces(word: string, width: number): string[] {
  if (widthOf(word) <= width) return [word];
  const found: string[] = [];
  let piece = "";
  for (const character of word) {
    if (widthOf(piece + character) > width) {
      found.push(piece);
      piece = "";
    }
    piece += character;
  }
  return [...found, piece];
}
