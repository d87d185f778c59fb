/** A measured figure: what, how much, and against what. */
export interface Figure {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** What it is measured against, in the same run; `ratio` is the value divided by that. */
  readonly against?: { readonly name: string; readonly value: number; readonly ratio: number };
  /** What the project wants it to be; `met` says whether it is. */
  readonly wanted?: { readonly limit: string; readonly met: boolean };
}

export function median(values: readonly number[]): number {
  return percentile(values, 50);
}

export function percentile(values: readonly number[], percent: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))] ?? Number.NaN;
}

/** A figure that must not be over a limit. */
export function atMost(name: string, value: number, unit: string, limit: number, against?: Against): Figure {
  return {
    name,
    value,
    unit,
    ...compared(value, against),
    wanted: { limit: `≤ ${limit} ${unit}`, met: value <= limit },
  };
}

/** A figure that must not be under a limit. */
export function atLeast(name: string, value: number, unit: string, limit: number): Figure {
  return { name, value, unit, wanted: { limit: `≥ ${limit} ${unit}`, met: value >= limit } };
}

/** A figure without a limit. */
export function figure(name: string, value: number, unit: string, against?: Against): Figure {
  return { name, value, unit, ...compared(value, against) };
}

/** A figure whose ratio to another of the same run counts. */
export function ratioOf(
  name: string,
  value: number,
  unit: string,
  against: Against,
  wanted: { atLeast: number } | { atMost: number },
): Figure {
  const ratio = value / against.value;
  const met = "atLeast" in wanted ? ratio >= wanted.atLeast : ratio <= wanted.atMost;
  const limit = "atLeast" in wanted ? `≥ ${wanted.atLeast} ×` : `≤ ${wanted.atMost} ×`;
  return { name, value, unit, ...compared(value, against), wanted: { limit, met } };
}

interface Against {
  readonly name: string;
  readonly value: number;
}

function compared(value: number, against: Against | undefined): Pick<Figure, "against"> {
  return against === undefined ? {} : { against: { ...against, ratio: value / against.value } };
}

export function printFigures(figures: readonly Figure[]): void {
  const rows = figures.map(({ name, value, unit, against, wanted }) => [
    name,
    `${short(value)} ${unit}`,
    against === undefined ? "" : `${short(against.ratio)} × ${against.name} (${short(against.value)} ${unit})`,
    wanted === undefined ? "" : `${wanted.met ? "met " : "MISS"} ${wanted.limit}`,
  ]);
  const widths = [0, 1, 2, 3].map((column) => Math.max(...rows.map((row) => row[column]!.length)));
  for (const row of rows) {
    process.stdout.write(
      `${row
        .map((cell, i) => cell.padEnd(widths[i]!))
        .join("  ")
        .trimEnd()}\n`,
    );
  }
}

function short(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toPrecision(2);
}
