import { type JsonInput, jsonLines, toJson } from "./format/json.ts";
import { sanitise, sanitiseValue } from "./format/sanitise.ts";
import {
  formatProperties,
  formatTable,
  type PrintedCell,
  type TableColumn,
  type TableStyle,
  tableParts,
} from "./format/table.ts";
import { type Io, usesColour } from "./io.ts";

/** One line of a listing, as `--json` prints it. */
export type JsonRow = Readonly<Record<string, JsonInput | undefined>>;

/** A column of the human form of a listing. */
export interface ListColumn {
  /** The key in the row, and the title unless there is another. */
  name: string;
  title?: string;
  align?: "left" | "right";
  /** Never cut off. */
  whole?: boolean;
  /** For values that are present; without it they print as they are. */
  format?(value: JsonInput): string;
}

/** How a command answers: rows or one object, for people or for programs. */
export interface Printer {
  readonly json: boolean;
  list(rows: readonly JsonRow[], columns: readonly ListColumn[]): Promise<void>;
  /**
   * A list for people whose rows come one by one; few of them are held. `columnsOf` is given the first ones, to see how they
   * are best shown.
   */
  listed(rows: AsyncIterable<JsonRow>, columnsOf: (first: readonly JsonRow[]) => readonly ListColumn[]): Promise<void>;
  /** One thing: a JSON object, or its properties one a line (those of `columns`, when given). */
  object(row: JsonRow, columns?: readonly ListColumn[]): Promise<void>;
  /** A sentence about what was done; with `--json`, the object instead. */
  done(sentence: string, row: JsonRow): Promise<void>;
  /** One line on stderr that is not a failure. */
  note(line: string): Promise<void>;
  lines(lines: Iterable<string>): Promise<void>;
}

/** Rows that are laid out together, and the time after which they are shown although there are fewer. */
const partRows = 1000;
const partMs = 500;

export function createPrinter(io: Io, json: boolean): Printer {
  const style: TableStyle = {
    width: io.out.isTerminal ? io.out.columns : undefined,
    colour: usesColour(io.out, io.env),
  };
  const lines = async (all: Iterable<string>) => {
    // In large pieces: a write a line would cost more than finding the rows.
    let piece = "";
    for (const line of all) {
      piece += `${line}\n`;
      if (piece.length >= 65_536) {
        await io.out.write(piece);
        piece = "";
      }
    }
    if (piece !== "") await io.out.write(piece);
  };
  return {
    json,
    lines,
    async list(rows, columns) {
      if (json) return io.out.write([...jsonLines(rows)].join(""));
      const cells = rows.map((row) => columns.map((column) => printCell(row[column.name], column)));
      await lines(formatTable(columns.map(titled), cells, style));
    },
    async listed(rows, columnsOf) {
      let columns: readonly ListColumn[] | undefined;
      let format: ReturnType<typeof tableParts> | undefined;
      let part: JsonRow[] = [];
      let begun = performance.now();
      const show = async () => {
        columns ??= columnsOf(part);
        format ??= tableParts(columns.map(titled), style);
        await lines(format(part.map((row) => columns!.map((column) => printCell(row[column.name], column)))));
        part = [];
        begun = performance.now();
      };
      for await (const row of rows) {
        part.push(row);
        if (part.length === partRows || performance.now() - begun > partMs) await show();
      }
      if (part.length > 0 || format === undefined) await show();
    },
    async object(row, columns) {
      if (json) return io.out.write(`${toJson(row)}\n`);
      const shown: readonly ListColumn[] = columns ?? Object.keys(row).map((name) => ({ name }));
      await lines(
        formatProperties(
          shown.map((column) => [sanitise(column.title ?? column.name), printCell(row[column.name], column)]),
          style,
        ),
      );
    },
    async done(sentence, row) {
      await io.out.write(json ? `${toJson(row)}\n` : `${sanitise(sentence)}\n`);
    },
    async note(line) {
      await io.err.write(`cloudvmi: ${sanitise(line)}\n`);
    },
  };
}

const titled = (column: ListColumn): TableColumn => ({
  title: sanitise(column.title ?? column.name),
  align: column.align,
  whole: column.whole,
});

/** A value as a person reads it. What is missing says so: `-` does not apply, `(unreadable)` and the like could not be read. */
function printCell(value: JsonInput | undefined, column: ListColumn): PrintedCell {
  if (value === null || value === undefined || (Array.isArray(value) && value.length === 0))
    return { text: "-", dim: true };
  if (isAbsent(value)) return { text: `(${sanitise(value.state)})`, dim: true };
  if (column.format !== undefined) return { text: sanitise(column.format(value)) };
  if (Array.isArray(value)) return { text: value.map((item) => sanitiseValue(plain(item))).join(", ") };
  return { text: sanitiseValue(plain(value)) };
}

const plain = (value: JsonInput) =>
  typeof value === "string" ? value : typeof value === "object" ? toJson(value) : `${value}`;

function isAbsent(value: JsonInput): value is { state: string } {
  return typeof value === "object" && value !== null && "state" in value && typeof value.state === "string";
}
