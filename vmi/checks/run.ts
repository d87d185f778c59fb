import type { Budget } from "../budget.ts";
import { GuestError } from "../errors.ts";
import type { Kernel } from "../linux/kernel.ts";
import type { ColumnData } from "../tables/columns.ts";
import { readTable } from "../tables/read-table.ts";
import { type Check, type CheckContext, type CheckRow, type Finding, SEVERITIES, type Severity } from "./check.ts";

/** Findings of one check, at most: a guest that is wrong everywhere is told as well by these. */
const MAX_FINDINGS = 1000;
/** Characters of one text. */
const MAX_TEXT = 4000;
/** Of a request's steps what each of the two looks may spend; what is left over is for telling what was found. */
const LOOK_SHARE = 0.45;

export interface CheckFinding extends Finding {
  readonly check: Check;
  readonly severity: Severity;
}

export interface CheckAnswer {
  readonly findings: readonly CheckFinding[];
  /** What could not be looked at. */
  readonly notes: readonly string[];
  /** Readings that were begun anew, and findings that were not seen again. */
  readonly retried: number;
}

/** Looks for what is wrong. A finding is told when it was seen twice, with everything read anew in between. */
export function runChecks(checks: readonly Check[], kernel: Kernel, budget: Budget): CheckAnswer {
  const steps = Math.floor(budget.left * LOOK_SHARE);
  const first = pass(checks, kernel, budget, steps);
  if (first.found.size === 0) return { findings: [], notes: [...first.notes], retried: first.retried };
  kernel.dropCaches();
  const again = pass([...first.found.keys()], kernel, budget, steps);
  const findings: CheckFinding[] = [];
  let unseen = 0;
  for (const [check, before] of first.found) {
    const after = again.found.get(check);
    for (const [key, finding] of after ?? []) {
      if (before.has(key)) findings.push({ ...finding, check, severity: finding.severity ?? check.severity });
    }
    for (const key of before.keys()) unseen += after?.has(key) ? 0 : 1;
  }
  return {
    findings,
    notes: [...new Set([...first.notes, ...again.notes])],
    retried: first.retried + again.retried + unseen,
  };
}

interface Pass {
  /** Of each check that found something, by identity and process. */
  readonly found: Map<Check, Map<string, Finding>>;
  readonly notes: Set<string>;
  retried: number;
}

/**
 * Half of the steps belong to the checks in equal parts, and half to those that need more, as they come: whoever makes one
 * endless takes nothing from the others that they could not do without.
 */
function pass(checks: readonly Check[], kernel: Kernel, whole: Budget, steps: number): Pass {
  const own = Math.floor(steps / 2 / checks.length);
  let common = steps - own * checks.length;
  const result: Pass = { found: new Map(), notes: new Set(), retried: 0 };
  const shared = new Map<unknown, unknown>();
  for (const check of checks) {
    const found = new KeptFindings(check.severity);
    const budget = whole.part(own + common);
    const context: CheckContext = {
      kernel,
      budget,
      report: (reported) => {
        if (!found.keep(reported)) context.incomplete(`more than ${MAX_FINDINGS} findings`);
      },
      incomplete: (note) => result.notes.add(`${check.name}: ${note}`),
      rows: (table, query = {}) => {
        const { trail } = kernel;
        const before = trail.retried;
        const answer = readTable(table, kernel, query, budget);
        // What the trail counts is counted for whoever reads the findings.
        result.retried += answer.retried - (trail.retried - before);
        for (const note of answer.notes) context.incomplete(note);
        return rowsOf(
          answer.columns.map(({ name }) => name),
          answer.data,
          answer.rows,
        );
      },
      shared: (make) => {
        if (!shared.has(make)) shared.set(make, make(context));
        return shared.get(make) as ReturnType<typeof make>;
      },
    };
    look(check, context);
    const spent = own + common - budget.left;
    common -= Math.max(0, spent - own);
    whole.spend(spent);
    if (found.all.size > 0) result.found.set(check, found.all);
  }
  return result;
}

/** The findings of one check: MAX_FINDINGS, the worst of all. */
class KeptFindings {
  readonly all = new Map<string, Finding>();
  readonly #usual: Severity;
  /** None of those that are kept is milder. */
  #mildest = SEVERITIES.length - 1;

  /** @param usual severity of findings that have none of their own */
  constructor(usual: Severity) {
    this.#usual = usual;
  }

  /** False when there is one too many, and this one or a milder one was dropped for it. */
  keep(reported: Finding): boolean {
    const finding = printable(reported);
    const rank = this.#rank(finding);
    // Two processes of one program have one identity, for baselines: none of them is seen twice because the other is.
    const key = `${finding.identity} ${finding.pid ?? ""}`;
    const known = this.all.get(key);
    if (known !== undefined) {
      if (rank <= this.#rank(known)) this.all.set(key, finding);
      return true;
    }
    const full = this.all.size >= MAX_FINDINGS;
    if (full && !this.#makeRoom(rank)) return false;
    this.all.set(key, finding);
    return !full;
  }

  #rank({ severity }: Finding): number {
    return SEVERITIES.indexOf(severity ?? this.#usual);
  }

  /** Drops the last of the mildest, unless none is milder than this. */
  #makeRoom(rank: number): boolean {
    for (; this.#mildest > rank; this.#mildest--) {
      const last = [...this.all].findLast(([, kept]) => this.#rank(kept) === this.#mildest);
      if (last !== undefined) return this.all.delete(last[0]);
    }
    return false;
  }
}

/** Whatever the guest put into names and paths: texts of a finding are printable ASCII, and of bounded length. */
function printable(finding: Finding): Finding {
  const clean = (text: string) =>
    text.slice(0, MAX_TEXT).replaceAll(/[^\x20-\x7e]/gu, (one) => `\\u{${one.codePointAt(0)!.toString(16)}}`);
  return {
    ...finding,
    what: clean(finding.what),
    where: clean(finding.where),
    evidence: clean(finding.evidence),
    expected: clean(finding.expected),
    identity: clean(finding.identity),
  };
}

/**
 * What a kernel has in no shape that is known here keeps one check from looking, and so does what is endless in the guest: not
 * the others.
 */
function look(check: Check, context: CheckContext): void {
  try {
    check.look(context);
  } catch (error) {
    if (!(error instanceof GuestError)) throw error;
    if (error.kind === "over-budget") context.incomplete(OVER_BUDGET);
    else if (error.kind === "unsupported-kernel") context.incomplete(error.message);
    else throw error;
  }
}

/** Steps that ran out, and a table that is larger than an answer may be: what to narrow down is not the asker's to choose. */
const OVER_BUDGET = "what it reads of the guest is more than one check may: it has not looked at all of it";

function rowsOf(names: readonly string[], data: readonly ColumnData[], count: number): CheckRow[] {
  const rows = Array.from({ length: count }, (): Record<string, number | string | undefined> => ({}));
  data.forEach((column, at) => {
    const name = names[at]!;
    rows.forEach((row, i) => {
      if ((column.states?.[i] ?? 0) > 0) row[name] = undefined;
      else if (column.kind === "integer") row[name] = column.values[i];
      else row[name] = Buffer.from(column.bytes.subarray(i === 0 ? 0 : column.ends[i - 1], column.ends[i])).toString();
    });
  });
  return rows;
}
