import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import type { Kernel } from "../linux/kernel.ts";
import type { TableQuery } from "../tables/read-table.ts";
import type { CostClass, Table } from "../tables/table.ts";

/**
 * How bad a finding is. critical: the kernel is under somebody's control, or hides something. high: what hardly any honest
 * program does. medium: what an intruder does, and some software too. low: worth a look. info: no alarm, such as tracing
 * that is on.
 */
export type Severity = (typeof SEVERITIES)[number];
/** Worst first. */
export const SEVERITIES = ["critical", "high", "medium", "low", "info"] as const;

/** One thing that is not as it should be. Texts are for people; they hold no bytes of the guest but printable ASCII. */
export interface Finding {
  /** In one line, with names: "system call 62 (kill) goes to lab_kill of module lab_tricks". */
  readonly what: string;
  /** The object or place: "sys_call_table[62]", "process 391 (sshd)", "7f12a000-7f12c000 of process 391". */
  readonly where: string;
  /** What was seen, enough to act on: addresses, symbols, values. */
  readonly evidence: string;
  /** What an untouched system has there. */
  readonly expected: string;
  /**
   * Tells the finding from the check's others, and stays the same as long as the thing is there: names and numbers of the
   * guest, no addresses where they change from boot to boot. What is seen twice has the same one, and baselines keep it.
   */
  readonly identity: string;
  /** Where not the check's. */
  readonly severity?: Severity;
  readonly pid?: number;
  /** Where what was found leads to, or lies: symbol and module are told from it where it is the kernel's. */
  readonly address?: Halves;
  /** Code that was found, and what should be there where that is known: shown disassembled. */
  readonly code?: { readonly at: Halves; readonly found: Uint8Array; readonly original?: Uint8Array };
}

/** A row of a table, by column; undefined for what has no value. Text as UTF-8. */
export type CheckRow = Readonly<Record<string, number | string | undefined>>;

/** What a check works with. */
export interface CheckContext {
  readonly kernel: Kernel;
  readonly budget: Budget;
  report(finding: Finding): void;
  /** Notes that something could not be looked at, and why: the answer says so. */
  incomplete(note: string): void;
  /** Rows of a table, read now; what the table lacks is noted. */
  rows(table: Table, query?: TableQuery): CheckRow[];
  /** What several checks of one pass need, made once: lists of tasks or modules. */
  shared<T>(make: (context: CheckContext) => T): T;
}

/** A check: everything that is known of it, in one value. */
export interface Check {
  /** Of lower-case words with hyphens: "system-call-table". */
  readonly name: string;
  /** Of its worst findings. */
  readonly severity: Severity;
  /** "scan" for what reads much memory: all of the kernel's text, slabs. */
  readonly cost: CostClass;
  /** What is compared with what, and what is found by it. */
  readonly compares: string;
  /** What it can't see, and honest software that it reports. */
  readonly misses: string;
  /** How to confirm a finding by hand, with this tool's other commands or in the guest. */
  readonly confirm: string;
  /** Kernel structures and variables that it reads, with the versions that each branch serves. */
  readonly reads: readonly string[];
  /** Reports what it finds. Called again when it found something: a finding counts when it is seen twice. */
  readonly look: (context: CheckContext) => void;
}

export function defineCheck(check: Check): Check {
  return check;
}
