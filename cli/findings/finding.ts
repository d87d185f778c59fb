import type { JsonRow } from "../print.ts";

/** Worst first. What an agent of another version says besides is taken for the worst. */
export const severities = ["critical", "high", "medium", "low", "info"] as const;
export type Severity = (typeof severities)[number];

/** A row of `findings`, with the VM and its host where several are asked. */
export type FindingRow = JsonRow;

/** The text of a cell; empty for one that has none. */
export function cell(row: JsonRow, column: string): string {
  const value = row[column];
  return typeof value === "string" ? value : "";
}

export function severityOf(row: FindingRow): Severity {
  return knownSeverity(cell(row, "severity"));
}

const knownSeverity = (told: string) => severities.find((severity) => severity === told) ?? "critical";

/** True when the first is a worse severity than the second. */
export const isWorse = (one: string, other: string) =>
  severities.indexOf(knownSeverity(one)) < severities.indexOf(knownSeverity(other));

export const isAlarm = (row: FindingRow) => severityOf(row) !== "info";

/** "2 findings (1 critical, 1 medium)". */
export function counted(rows: readonly FindingRow[]): string {
  const parts = severities.flatMap((severity) => {
    const count = rows.filter((row) => severityOf(row) === severity).length;
    return count === 0 ? [] : [`${count} ${severity}`];
  });
  return `${rows.length} finding${rows.length === 1 ? "" : "s"} (${parts.join(", ")})`;
}
