import { randomBytes } from "node:crypto";
import { readFile, rename, rm, writeFile } from "node:fs/promises";
import { usageError } from "../failure.ts";
import type { JsonInput } from "../format/json.ts";
import { cell, type FindingRow, isAlarm, isWorse } from "./finding.ts";

const VERSION = 1;

/** A kernel as table kernel_info tells it. */
export interface KernelBuild {
  readonly release: string;
  readonly build_id: string;
}

/** What tells a finding from others, and what people read of it when it is gone. */
interface Known {
  readonly check: string;
  readonly identity: string;
  readonly severity: string;
  readonly what: string;
  readonly place: string;
}

/** What one VM was found to have while it ran one build of the kernel. */
interface BaselineEntry {
  /** UUID of the VM. */
  readonly vm: string;
  /** What it was called, for people. */
  readonly name: string;
  readonly kernel: KernelBuild;
  /** When, ISO 8601. */
  readonly recorded: string;
  /** The checks that looked. What others find later is neither new nor gone. */
  readonly checks: readonly string[];
  readonly findings: readonly Known[];
}

/** What belongs to VMs: findings that are accepted, and what checks of severity info have listed. */
export interface Baseline {
  readonly entries: readonly BaselineEntry[];
}

/** Reads a baseline. Throws a usage error for a file that is none; undefined when there is no file. */
export async function readBaseline(path: string): Promise<Baseline | undefined> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw usageError(`${path} is not JSON: record it anew with \`cloudvmi checks --record\``, error);
  }
  const file = parsed as { cloudvmi_baseline?: unknown; entries?: unknown } | null;
  if (typeof file !== "object" || file?.cloudvmi_baseline === undefined) {
    throw usageError(`${path} is no baseline: \`cloudvmi checks --record\` makes one`);
  }
  if (file.cloudvmi_baseline !== VERSION) {
    throw usageError(
      `${path} is a baseline of version ${JSON.stringify(file.cloudvmi_baseline)}, and this program knows ${VERSION}: record it anew`,
    );
  }
  if (!Array.isArray(file.entries) || !file.entries.every(isEntry)) {
    throw usageError(`${path} is a damaged baseline: record it anew with \`cloudvmi checks --record\``);
  }
  return { entries: file.entries };
}

function isEntry(value: unknown): value is BaselineEntry {
  const { vm, name, kernel, recorded, checks, findings } = (value ?? {}) as Partial<BaselineEntry>;
  return (
    [vm, name, recorded, kernel?.release, kernel?.build_id].every((text) => typeof text === "string") &&
    Array.isArray(checks) &&
    Array.isArray(findings) &&
    findings.every((known: Partial<Known> | null) =>
      [known?.check, known?.identity, known?.severity, known?.what, known?.place].every(
        (text) => typeof text === "string",
      ),
    )
  );
}

/** Writes it whole: whoever reads it meanwhile has the old one. */
export async function writeBaseline(path: string, { entries }: Baseline): Promise<void> {
  const temporary = `${path}.${randomBytes(4).toString("hex")}`;
  const text = `${JSON.stringify({ cloudvmi_baseline: VERSION, entries }, undefined, 1)}\n`;
  try {
    await writeFile(temporary, text, { flag: "wx" });
    await rename(temporary, path);
  } finally {
    await rm(temporary, { force: true });
  }
}

export function entryOf(
  vm: { readonly uuid: string; readonly name: string },
  kernel: KernelBuild,
  checks: readonly string[],
  rows: readonly FindingRow[],
): BaselineEntry {
  const findings = rows.map((row) => ({
    check: cell(row, "check_name"),
    identity: cell(row, "identity"),
    severity: cell(row, "severity"),
    what: cell(row, "what"),
    place: cell(row, "place"),
  }));
  return { vm: vm.uuid, name: vm.name, kernel, recorded: new Date().toISOString(), checks, findings: sorted(findings) };
}

const sorted = (findings: readonly Known[]) => findings.toSorted((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));

/** With the entry in the place of an earlier one of that VM and build, but for the checks that only that has; all others stay. */
export function withEntry({ entries }: Baseline, entry: BaselineEntry): Baseline {
  const earlier = entries.find((other) => sameSubject(other, entry.vm, entry.kernel));
  const checks = (earlier?.checks ?? []).filter((check) => !entry.checks.includes(check));
  const findings = (earlier?.findings ?? []).filter(({ check }) => checks.includes(check));
  const whole = { ...entry, checks: [...entry.checks, ...checks], findings: sorted([...entry.findings, ...findings]) };
  return { entries: [...entries.filter((other) => other !== earlier), whole] };
}

const sameSubject = (entry: BaselineEntry, vm: string, kernel: KernelBuild) =>
  entry.vm === vm && entry.kernel.build_id === kernel.build_id && entry.kernel.release === kernel.release;

const keyOf = ({ check, identity }: { check: string; identity: string }) => `${check}\0${identity}`;

/** The entry of a VM and the build that it runs, or why there is none, in one line. */
export function findEntry(
  { entries }: Baseline,
  vm: { readonly uuid: string; readonly name: string },
  kernel: KernelBuild,
): BaselineEntry | string {
  const found = entries.find((entry) => sameSubject(entry, vm.uuid, kernel));
  if (found !== undefined) return found;
  const who = vm.name === "" ? "this guest" : vm.name;
  const others = entries.filter((entry) => entry.vm === vm.uuid).map((entry) => nameOf(entry.kernel));
  if (others.length === 0) return `the baseline has nothing of ${who}: record it with --record into the same file`;
  return (
    `${who} runs kernel ${nameOf(kernel)}, and the baseline has it with ${others.join(" and ")}: when that is as it ` +
    "should be, record it with --record into the same file, which keeps the others"
  );
}

const nameOf = ({ release, build_id }: KernelBuild) => `${release} (build id ${build_id.slice(0, 12)})`;

/**
 * What differs from the entry: findings that it does not have, those of severity info as low; findings that are worse than
 * it has them; and what it has and is gone, as info. Checks that did not look then, or do not now, tell of no difference.
 */
export function differences(
  entry: BaselineEntry,
  looked: readonly string[],
  rows: readonly FindingRow[],
): FindingRow[] {
  const before = worstSeverities(entry.findings);
  const now = new Set(rows.map((row) => keyOf(identified(row))));
  const fresh = rows.flatMap((row) => {
    const was = before.get(keyOf(identified(row)));
    if (was !== undefined) {
      if (!isWorse(cell(row, "severity"), was)) return [];
      return [{ ...row, what: `was ${was} in the baseline: ${cell(row, "what")}` }];
    }
    if (isAlarm(row)) return [row];
    if (!entry.checks.includes(cell(row, "check_name"))) return [];
    return [{ ...row, severity: "low", what: `not in the baseline: ${cell(row, "what")}` }];
  });
  const gone = entry.findings.filter((known) => looked.includes(known.check) && !now.has(keyOf(known)));
  return [...fresh, ...gone.map(goneRow)];
}

/** By check and identity: two processes of one program have one. */
function worstSeverities(findings: readonly Known[]): Map<string, string> {
  const worst = new Map<string, string>();
  for (const known of findings) {
    const before = worst.get(keyOf(known));
    if (before === undefined || isWorse(known.severity, before)) worst.set(keyOf(known), known.severity);
  }
  return worst;
}

const identified = (row: FindingRow) => ({ check: cell(row, "check_name"), identity: cell(row, "identity") });

function goneRow({ check, identity, severity, what, place }: Known): FindingRow {
  const columns: Record<string, JsonInput> = {
    check_name: check,
    severity: "info",
    what: `gone since the baseline: ${what}`,
    place,
    evidence: "it is no longer found",
    expected: `the baseline has it, with severity ${severity}`,
  };
  const absent = ["pid", "address", "symbol", "module", "code_address", "code", "original_code"];
  return { ...columns, ...Object.fromEntries(absent.map((name) => [name, null])), identity };
}
