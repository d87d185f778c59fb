// process_signals against the Sig lines of /proc/PID/status.
import assert from "node:assert/strict";
import type { Row } from "../engine/support.ts";
import { compareByProcess, findByArgument, statusOf } from "./by-process.ts";
import type { Comparison } from "./comparison.ts";

const sets = [
  ["SigPnd", "pending"],
  ["ShdPnd", "shared_pending"],
  ["SigBlk", "blocked"],
  ["SigIgn", "ignored"],
  ["SigCgt", "caught"],
] as const;

const setOf = (rows: readonly Row[], column: string) =>
  rows
    .filter((row) => row[column] === 1)
    .reduce((set, row) => set | (1n << BigInt((row.signal as number) - 1)), 0n)
    .toString(16)
    .padStart(16, "0");

export const comparison: Comparison = {
  table: "process_signals",
  async compare(subject, guest) {
    const { rows, processes } = await compareByProcess(
      subject,
      guest,
      "process_signals",
      (process) => sets.map(([key]) => statusOf(process, key)),
      (found) => sets.map(([, column]) => setOf(found, column)),
    );
    const signalled = findByArgument(processes, "signalled");
    // SIGUSR1 (10) and a real-time signal (40) blocked and waiting, SIGUSR2 (12) handled, SIGHUP (1) ignored.
    const bit = (signal: number) => 1n << BigInt(signal - 1);
    const has = (key: string, signal: number) => (BigInt(`0x${statusOf(signalled, key)}`) & bit(signal)) !== 0n;
    assert.ok(has("SigBlk", 10) && has("ShdPnd", 10) && has("SigPnd", 40) && has("SigCgt", 12) && has("SigIgn", 1));
    return `${rows} rows`;
  },
};
