import { pad, truncate, widthOf } from "./width.ts";

/** A cell that is ready to print: harmless (see sanitise), and dimmed where it says that something is missing. */
export interface PrintedCell {
  text: string;
  dim?: boolean;
}

export interface TableColumn {
  title: string;
  /** Numbers line up on the right. */
  align?: "left" | "right";
  /** Never cut off: half an identifier is of no use. */
  whole?: boolean;
}

export interface TableStyle {
  /** Terminal cells available; undefined (not a terminal): nothing is cut off. */
  width: number | undefined;
  colour: boolean;
}

const gap = 2;
/** A column is never made narrower than this to fit the terminal. */
const narrowest = 8;

const bold = (text: string) => `\x1b[1m${text}\x1b[22m`;
const dim = (text: string) => `\x1b[2m${text}\x1b[22m`;

const mayShrink = (column: TableColumn) => column.align !== "right" && !column.whole;

/** Widths that fit into `available` by taking from the widest column that is not numeric, as long as it has to give. */
function fit(widths: number[], columns: readonly TableColumn[], available: number): void {
  let excess = widths.reduce((sum, width) => sum + width, gap * (widths.length - 1)) - available;
  while (excess > 0) {
    let widest = -1;
    for (let at = 0; at < widths.length; at++) {
      if (!mayShrink(columns[at]!) || widths[at]! <= narrowest) continue;
      if (widest < 0 || widths[at]! > widths[widest]!) widest = at;
    }
    if (widest < 0) return;
    // Down to the next widest at most, so that two long columns share the loss.
    const others = widths.filter((width, at) => at !== widest && mayShrink(columns[at]!) && width < widths[widest]!);
    const floor = Math.max(narrowest, ...others);
    const taken = Math.min(excess, Math.max(1, widths[widest]! - floor));
    widths[widest]! -= taken;
    excess -= taken;
  }
}

/** Lines of an aligned table, headed by the columns' titles. */
export function formatTable(
  columns: readonly TableColumn[],
  rows: readonly (readonly PrintedCell[])[],
  style: TableStyle,
): string[] {
  return tableParts(columns, style)(rows);
}

/** Lines of a table whose rows come in parts: in each, a column is as wide as its widest cell so far. The first has the titles. */
export function tableParts(
  columns: readonly TableColumn[],
  style: TableStyle,
): (rows: readonly (readonly PrintedCell[])[]) => string[] {
  const widest = columns.map((column) => widthOf(column.title));
  let headed = false;
  return (rows) => {
    for (const row of rows) {
      for (let at = 0; at < widest.length; at++) widest[at] = Math.max(widest[at]!, widthOf(row[at]!.text));
    }
    const widths = [...widest];
    if (style.width !== undefined) fit(widths, columns, style.width);
    const lines = rows.map((row) => lineOf(row, columns, widths, style, false));
    if (!headed) {
      const titles = columns.map((column) => ({ text: column.title }));
      lines.unshift(lineOf(titles, columns, widths, style, true));
    }
    headed = true;
    return lines;
  };
}

function lineOf(
  cells: readonly PrintedCell[],
  columns: readonly TableColumn[],
  widths: readonly number[],
  style: TableStyle,
  heading: boolean,
): string {
  let text = "";
  for (let at = 0; at < columns.length; at++) {
    const cell = cells[at]!;
    const cut = style.width === undefined ? cell.text : truncate(cell.text, widths[at]!);
    const right = columns[at]!.align === "right";
    // Spaces at the end of a line are of no use to anyone.
    const padded = at === columns.length - 1 && !right ? cut : pad(cut, widths[at]!, right ? "right" : "left");
    const styled = !style.colour ? padded : heading ? bold(padded) : cell.dim ? dim(padded) : padded;
    text += (at > 0 ? " ".repeat(gap) : "") + styled;
  }
  return text.trimEnd();
}

/** Lines of "name  value", for a single thing with many properties. */
export function formatProperties(properties: readonly (readonly [string, PrintedCell])[], style: TableStyle): string[] {
  const width = Math.max(0, ...properties.map(([name]) => widthOf(name)));
  return properties.map(([name, cell]) => {
    const title = pad(name, width, "left");
    const value = style.colour && cell.dim ? dim(cell.text) : cell.text;
    return `${style.colour ? bold(title) : title}${" ".repeat(gap)}${value}`.trimEnd();
  });
}
