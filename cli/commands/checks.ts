import { type Command, Option } from "commander";
import type { GuestHandle, TableReading } from "../../sdk/index.ts";
import { nearest } from "../../sql/nearest.ts";
import { exitCode } from "../exit-code.ts";
import { CliError, usageError } from "../failure.ts";
import {
  type Baseline,
  differences,
  entryOf,
  findEntry,
  type KernelBuild,
  readBaseline,
  withEntry,
  writeBaseline,
} from "../findings/baseline.ts";
import { loadDisassembler } from "../findings/disassembly.ts";
import { cell, counted, type FindingRow, isAlarm } from "../findings/finding.ts";
import { reportLines, wrapped } from "../findings/report.ts";
import { sanitise } from "../format/sanitise.ts";
import { askAll, type GuestSource, type NamedGuest } from "../guests.ts";
import { type Io, usesColour } from "../io.ts";
import type { JsonRow } from "../print.ts";
import type { CommonOptions, Session } from "../session.ts";
import { groups } from "./command.ts";
import { addManyGuestsCommand, type ManyGuestsCommand, type Scope } from "./guest-command.ts";

interface ChecksOptions extends CommonOptions {
  check?: string[];
  all?: boolean;
  list?: boolean;
  explain?: string;
  record?: string;
  baseline?: string;
}

const parseCheck = (name: string, before: string[] | undefined) => [...(before ?? []), name];

/** Lines of a report are no longer, however wide the terminal is. */
const WIDEST = 100;

export function addChecksCommand(parent: Command, io: Io, source: GuestSource): void {
  addManyGuestsCommand(parent, io, source, checksCommand);
}

const checksCommand: ManyGuestsCommand<[], ChecksOptions> = {
  name: "checks",
  summary: "Look for rootkits and intruders: what hides, hooks, injects or pretends.",
  description:
    "Prints what was found, worst first; nothing but a line on stderr when nothing was. A finding has been seen twice. " +
    "Exits with 5 when there is a finding above severity info. The guest is read from outside while it runs.",
  examples: [
    "checks VM",
    "checks VM --check deleted-executable --json",
    "checks VM --explain deleted-executable",
    "checks VM --record web1.baseline.json",
    "checks VM --baseline web1.baseline.json",
  ],
  group: groups.inside,
  configure(command) {
    command
      .option("--check <name>", "only this check; again for several", parseCheck)
      .option("--all", "what is no alarm too (severity info)")
      .addOption(
        new Option("--list", "list the checks there are").conflicts(["explain", "record", "baseline", "check"]),
      )
      .addOption(
        new Option("--explain <check>", "what a check compares, what it misses, how to confirm it").conflicts([
          "record",
          "baseline",
          "check",
        ]),
      )
      .addOption(
        new Option("--record <file>", "keep what is found as what belongs there, by VM and kernel build").conflicts([
          "baseline",
        ]),
      )
      .option("--baseline <file>", "report only what differs from what was recorded");
  },
  async run(session, guests, scope, options) {
    if (options.list) return list(session, await specsOf(session, guests));
    if (options.explain !== undefined) return explain(session, await specsOf(session, guests), options.explain);
    // Before the guests are asked: a wrong name or file is told at once.
    if (options.check !== undefined) known(await specsOf(session, guests), options.check);
    await look(session, guests, scope, options);
  },
};

/** Rows of the table `checks`, from the first guest that answers: those of one version are the same. */
async function specsOf(session: Session, guests: readonly NamedGuest[]): Promise<JsonRow[]> {
  let failure: unknown;
  for (const guest of guests) {
    try {
      const handle = await guest.open();
      return (await handle.table("checks", { signal: session.io.signal }).all()) as JsonRow[];
    } catch (error) {
      failure ??= error;
    }
  }
  throw failure;
}

/** Throws a usage error for a name that no check has, with the one that was probably meant. */
function known(specs: readonly JsonRow[], names: readonly string[]): JsonRow[] {
  return names.map((name) => {
    const spec = specs.find((each) => each.name === name);
    if (spec !== undefined) return spec;
    const meant = nearest(
      name,
      specs.map((each) => cell(each, "name")),
    );
    const next = meant === undefined ? "`cloudvmi checks --list` lists them" : `did you mean '${meant}'?`;
    throw usageError(`there is no check '${name}': ${next}`);
  });
}

async function list({ printer }: Session, specs: readonly JsonRow[]): Promise<void> {
  await printer.list(specs, [
    { name: "name", whole: true },
    { name: "severity" },
    { name: "cost" },
    { name: "compares" },
  ]);
}

async function explain({ printer, io }: Session, specs: readonly JsonRow[], name: string): Promise<void> {
  const [spec] = known(specs, [name]) as [JsonRow];
  if (printer.json) return printer.object(spec);
  const width = widthFor(io);
  const parts = [`${cell(spec, "name")}: severity ${cell(spec, "severity")} at worst, cost ${cell(spec, "cost")}`];
  for (const title of ["compares", "misses", "confirm", "reads"]) {
    const lines = wrapped(sanitise(cell(spec, title)), width - 2);
    parts.push("", title, ...lines.map((line) => `  ${line}`));
  }
  await printer.lines(parts);
}

const widthFor = (io: Io) => (io.out.isTerminal ? Math.min(io.out.columns, WIDEST) : WIDEST);

/** What one guest answers. */
interface Looked {
  readonly rows: FindingRow[];
  readonly checks: string[];
  /** Those of them that could look at everything. */
  readonly whole: string[];
  readonly kernel: KernelBuild | undefined;
  readonly uuid: string;
  readonly incomplete: boolean;
  readonly microseconds: number;
}

async function look(
  session: Session,
  guests: readonly NamedGuest[],
  scope: Scope,
  options: ChecksOptions,
): Promise<void> {
  const { printer } = session;
  const file = options.record ?? options.baseline;
  const before = file === undefined ? undefined : await readBaseline(file);
  if (options.baseline !== undefined && before === undefined) {
    throw usageError(`${options.baseline}: there is no such baseline: \`cloudvmi checks --record\` makes one`);
  }
  const { answers, settle } = await askAll(session, guests, async (handle, guest) => {
    const looked = await lookInto(session, handle, options);
    for (const note of looked.notes) await printer.note(`${guest.name === "" ? "" : `${guest.name}: `}${note}`);
    return looked;
  });
  let baseline: Baseline = before ?? { entries: [] };
  const unmatched: string[] = [];
  const refused: string[] = [];
  const rows: FindingRow[] = [];
  for (const { guest, value } of answers) {
    const subject = { uuid: value.uuid, name: guest.name };
    let found = value.rows;
    if (options.record !== undefined) {
      // What could not be looked at now would be new at the next look, and a good entry would be gone.
      if (value.incomplete) {
        refused.push(guest.name);
        continue;
      }
      baseline = withEntry(baseline, entryOf(subject, value.kernel!, value.checks, found));
    } else if (options.baseline !== undefined) {
      const entry = findEntry(baseline, subject, value.kernel!);
      if (typeof entry === "string") unmatched.push(entry);
      else found = differences(entry, value.whole, found);
    }
    rows.push(...found.map((row) => (scope.single ? row : { vm: guest.name, host: guest.host, ...row })));
  }
  await show(session, rows, options);
  for (const why of unmatched) await printer.note(why);

  const alarms = rows.filter(isAlarm);
  const ending = endingOf(
    answers.map(({ value }) => value),
    rows,
    options,
  );
  if (options.record !== undefined && answers.length > refused.length) {
    await writeBaseline(options.record, baseline);
    await printer.note(
      `recorded in ${options.record}: ${rows.length} findings, ${alarms.length} of them above info${ending.took}`,
    );
  }
  if (refused.length > 0) {
    throw new CliError(
      exitCode.guest,
      `${scope.single ? "not recorded" : `not recorded: ${refused.join(", ")}`}, as what was found is incomplete (see above): ` +
        "record again, or with --check only those checks that could look",
    );
  }
  if (options.record !== undefined) return settle();
  if (alarms.length > 0) throw new CliError(exitCode.finding, `${counted(alarms)}${ending.info}${ending.took}`);
  if (unmatched.length > 0) {
    throw usageError(
      `compared with no baseline: ${unmatched.length === 1 ? "see above" : `${unmatched.length} VMs, see above`}`,
    );
  }
  const clean = options.baseline === undefined ? "no finding" : "nothing new since the baseline";
  // A gate must not open because a check was kept from looking.
  if (answers.some(({ value }) => value.incomplete)) {
    throw new CliError(exitCode.guest, `${clean}${ending.info}${ending.took}`);
  }
  if (answers.length > 0) await printer.note(`${clean}${ending.info}${ending.took}`);
  settle();
}

function endingOf(all: readonly Looked[], rows: readonly FindingRow[], options: ChecksOptions) {
  const checks = new Set(all.flatMap((one) => one.checks)).size;
  const milliseconds = Math.round(Math.max(0, ...all.map((one) => one.microseconds)) / 1000);
  const of = all.length > 1 ? ` of ${all.length} VMs` : "";
  const incomplete = all.some((one) => one.incomplete) ? ", but the answer is incomplete (see above)" : "";
  const info = rows.filter((row) => !isAlarm(row)).length;
  const hidden = info === 0 || options.all || options.baseline !== undefined ? "" : "; --all shows them";
  return {
    took: ` (${checks} check${checks === 1 ? "" : "s"}${of}, ${milliseconds} ms)`,
    info: `${incomplete}${info === 0 ? "" : `, ${info} for information${hidden}`}`,
  };
}

async function lookInto(
  session: Session,
  handle: GuestHandle,
  options: ChecksOptions,
): Promise<Looked & { notes: string[] }> {
  const { signal } = session.io;
  const needsKernel = options.record !== undefined || options.baseline !== undefined;
  const where = options.check === undefined ? undefined : { check_name: options.check };
  const reading = handle.table("findings", { where, signal });
  const [rows, specs, kernels] = await Promise.all([
    reading.all(),
    names(handle.table("checks", { columns: ["name"], signal })),
    needsKernel ? handle.table("kernel_info", { columns: ["version", "build_id"], signal }).all() : [],
  ]);
  const summary = await reading.summary;
  const [kernel] = kernels as JsonRow[];
  const checks = options.check ?? specs;
  const notes = summary.incomplete ? summary.notes.map((note) => `the findings are incomplete: ${note}`) : [];
  return {
    rows: rows as FindingRow[],
    checks,
    whole: summary.incomplete ? withoutNote(checks, summary.notes) : checks,
    kernel: needsKernel ? { release: cell(kernel!, "version"), build_id: cell(kernel!, "build_id") } : undefined,
    uuid: handle.id.uuid,
    incomplete: summary.incomplete,
    microseconds: Number(summary.microseconds),
    notes,
  };
}

/** The checks that could look at everything: a note begins with the name of the one that could not. Any other may be about all. */
function withoutNote(checks: readonly string[], notes: readonly string[]): string[] {
  const noted = notes.map((note) => checks.find((check) => note.startsWith(`${check}: `)));
  return noted.length === 0 || noted.includes(undefined) ? [] : checks.filter((check) => !noted.includes(check));
}

const names = async (reading: TableReading) => ((await reading.all()) as JsonRow[]).map((row) => cell(row, "name"));

async function show({ printer, io }: Session, rows: readonly FindingRow[], options: ChecksOptions): Promise<void> {
  // Of a baseline all that differs counts.
  const shown = options.all || options.baseline !== undefined ? rows : rows.filter(isAlarm);
  if (printer.json) return printer.list(shown, []);
  const disassemble = shown.some((row) => cell(row, "code") !== "") ? await loadDisassembler() : undefined;
  await printer.lines(reportLines(shown, { width: widthFor(io), colour: usesColour(io.out, io.env), disassemble }));
}
