import type { Command } from "commander";
import type { ColumnSpec, GuestHandle, Row, TableSpec } from "../../sdk/index.ts";
import { nearest } from "../../sql/nearest.ts";
import { exitCode } from "../exit-code.ts";
import { CliError } from "../failure.ts";
import { type JsonInput, toJson } from "../format/json.ts";
import { formatBytes, formatDuration, formatTime } from "../format/units.ts";
import { askAll, type GuestSource, type NamedGuest } from "../guests.ts";
import type { Io } from "../io.ts";
import { parseColumns, parseLimit, parsePid, parseWhere, type Where } from "../parse.ts";
import type { JsonRow, ListColumn } from "../print.ts";
import type { CommonOptions, Session } from "../session.ts";
import { groups } from "./command.ts";
import { addManyGuestsCommand, type ManyGuestsCommand, type Scope } from "./guest-command.ts";

export interface TableOptions extends CommonOptions, ProcessOptions {
  columns?: string[];
  where?: Where;
  limit?: number;
}

/** How some columns read better, by name. JSON always has the plain values. */
const formats: Record<string, ListColumn["format"]> = {
  resident_size: (value) => formatBytes(value as number),
  total_size: (value) => formatBytes(value as number),
  size: (value) => formatBytes(value as number),
  uptime: (value) => formatDuration(value as number),
  boot_time: secondsAsTime,
  start_time: secondsAsTime,
  time: secondsAsTime,
};

/** Those that mean something else in one table. */
const formatsOfTables: Record<string, typeof formats> = {
  time: { uptime: nanosecondsAsDuration, monotonic: nanosecondsAsDuration },
  // As dmesg shows it.
  kernel_log: { time: (value) => (typeof value === "number" ? (value / 1e9).toFixed(6) : toJson(value)) },
  loaded_bpf_programs: { load_time: nanosecondsAsDuration },
};

function nanosecondsAsDuration(value: JsonInput): string {
  return typeof value === "number" || typeof value === "bigint" ? formatDuration(Number(value) / 1e9) : toJson(value);
}

/** Whatever a guest claims: what isn't a time prints as it is. */
function secondsAsTime(value: JsonInput): string {
  return typeof value === "number" ? formatTime(value * 1000) : toJson(value);
}

const noConstraint: Where = {};
const integerType = 1;
const realType = 2;

function listColumn(table: string, spec: ColumnSpec): ListColumn {
  const numeric = spec.type === integerType || spec.type === realType;
  return {
    name: spec.name,
    align: numeric ? "right" : "left",
    format: numeric ? (formatsOfTables[table]?.[spec.name] ?? formats[spec.name]) : undefined,
  };
}

/** A command that shows one table; `table NAME` shows any. */
interface TableCommand {
  name: string;
  table: string;
  summary: string;
  description?: string;
  examples: string[];
  /** What people see unless they choose with --columns. Programs see every column. */
  columns: string[];
  /** One row a VM: shown as properties, all of them, when one VM is asked. */
  single?: boolean;
  configure?: ManyGuestsCommand<[], TableOptions>["configure"];
  where?(options: ProcessOptions): Where;
}

const commands: TableCommand[] = [
  {
    name: "ps",
    table: "processes",
    summary: "List processes, of some VMs or of all.",
    description: "What the kernel of each VM has in its task list now, read from outside: nothing runs in the VM.",
    examples: ["ps", "ps VM", "ps VM --where name=sshd --columns pid,name,cmdline,start_time", "ps VM --json"],
    columns: ["pid", "parent", "uid", "state", "threads", "resident_size", "name", "cmdline"],
  },
  {
    name: "threads",
    table: "process_threads",
    summary: "List threads, of all processes or of one.",
    examples: ["threads VM", "threads VM --process 1"],
    columns: ["pid", "tid", "state", "nice", "name"],
    configure(command, kind) {
      command.option("--process <pid>", "only those of one process", parsePid);
      // In local mode --pid is QEMU's.
      if (kind === "service") command.option("--pid <pid>", "the same as --process", parsePid);
    },
    where(options) {
      const pid = processOf(options);
      return pid === undefined ? noConstraint : { pid: [`${pid}`] };
    },
  },
  {
    name: "modules",
    table: "kernel_modules",
    summary: "List loaded kernel modules.",
    examples: ["modules VM", "modules VM --json"],
    columns: ["name", "size", "used_by", "status", "address"],
  },
  {
    name: "info",
    table: "kernel_info",
    summary: "Show which kernel runs, since when, and how it was started.",
    examples: ["info VM", "info", "info VM --json"],
    columns: ["hostname", "version", "boot_time", "uptime", "paging"],
    single: true,
  },
];

interface ProcessOptions {
  process?: number;
  pid?: number;
}

/** --process, or --pid where that isn't taken. */
export function processOf(options: ProcessOptions): number | undefined {
  return options.process ?? options.pid;
}

export function addTableCommands(parent: Command, io: Io, source: GuestSource): void {
  for (const command of commands) addManyGuestsCommand(parent, io, source, tableCommand(command));
  addManyGuestsCommand(parent, io, source, tablesCommand);
  addManyGuestsCommand(parent, io, source, anyTable);
}

function addTableOptions(command: Command): void {
  command
    .option("--columns <names>", "which columns, with commas between", parseColumns)
    .option("--where <column=value>", "only rows with this value; the same column again: any of them", parseWhere)
    .option("--limit <rows>", "at most so many rows of each VM", parseLimit);
}

function tableCommand(table: TableCommand): ManyGuestsCommand<[], TableOptions> {
  return {
    ...table,
    group: groups.inside,
    configure(command, kind) {
      table.configure?.(command, kind);
      addTableOptions(command);
    },
    async run(session, guests, scope, options) {
      const every = session.printer.json || (table.single === true && scope.single);
      const columns = options.columns ?? (every ? [] : table.columns);
      const where = { ...options.where, ...table.where?.(processOptionsOf(options, scope)) };
      await showTable(session, guests, scope, table.table, { ...options, columns, where }, table.single === true);
    },
  };
}

/** In local mode --pid names the QEMU process, not one of the guest's. */
function processOptionsOf(options: ProcessOptions, scope: Scope): ProcessOptions {
  return scope.local ? { process: options.process } : options;
}

const anyTable: ManyGuestsCommand<[string], TableOptions> = {
  name: "table",
  summary: "Read any table; `cloudvmi tables` lists them.",
  examples: [
    "table memory_map VM",
    "table processes VM --columns pid,name,cmdline --where uid=0 --limit 20",
    "table kernel_modules --json",
  ],
  group: groups.inside,
  configure(command, kind) {
    command.argument("<name>", "name of the table");
    if (kind === "service") command.option("--vm <vm...>", "names or UUIDs, as an option");
    addTableOptions(command);
  },
  run: (session, guests, scope, options, name) => showTable(session, guests, scope, name, options, false),
};

const tablesCommand: ManyGuestsCommand<[], CommonOptions> = {
  name: "tables",
  summary: "List the tables there are, and their columns.",
  description: "With --json: every column's type and meaning, and what permission a table needs.",
  examples: ["tables VM", "tables VM --json"],
  group: groups.inside,
  async run(session, guests) {
    const byName = new Map<string, TableSpec>();
    const known = await guests[0]?.tables?.();
    const asked = known === undefined ? await askAll(session, guests, (handle) => handle.tables()) : undefined;
    for (const spec of known ?? asked!.answers.flatMap(({ value }) => value))
      if (!byName.has(spec.name)) byName.set(spec.name, spec);
    const rows = [...byName.values()].map((spec) => ({
      name: spec.name,
      description: spec.description,
      permission: spec.permission,
      cost: spec.cost,
      columns: spec.columns.map(({ name, type, description, key }) => ({
        name,
        type: type === integerType ? "integer" : type === realType ? "real" : "text",
        description,
        key,
      })),
      examples: spec.examples,
    }));
    if (session.printer.json) await session.printer.list(rows, []);
    else {
      const shown = rows.map((row) => ({ ...row, columns: row.columns.map(({ name }) => name) }));
      await session.printer.list(shown, [
        { name: "name" },
        { name: "cost" },
        { name: "description" },
        { name: "columns" },
      ]);
    }
    asked?.settle();
  },
};

/** A cell is printed as it is; the state of an absent one is an object. */
const asJson = (row: Row): JsonRow => row as JsonRow;

interface TableAnswer {
  rows: Row[];
  header: ColumnSpec[];
}

async function showTable(
  session: Session,
  guests: readonly NamedGuest[],
  scope: Scope,
  table: string,
  options: TableOptions,
  properties: boolean,
): Promise<void> {
  const { printer } = session;
  const { answers, settle } = await askAll(session, guests, async (handle, guest) => {
    const answer = await readTable(session, handle, table, options);
    for (const note of answer.notes) await printer.note(`${guest.name === "" ? "" : `${guest.name}: `}${note}`);
    return answer;
  });
  const header = answers[0]?.value.header ?? [];
  const columns = header.map((spec) => listColumn(table, spec));
  const rows: JsonRow[] = [];
  for (const { guest, value } of answers) {
    for (const row of value.rows)
      rows.push(scope.single ? asJson(row) : { vm: guest.name, host: guest.host, ...asJson(row) });
  }
  const [only] = rows;
  if (properties && scope.single && rows.length === 1) await printer.object(only!, columns);
  else await printer.list(rows, scope.single ? columns : [{ name: "vm" }, { name: "host" }, ...columns]);
  settle();
}

async function readTable(
  session: Session,
  handle: GuestHandle,
  table: string,
  options: TableOptions,
): Promise<TableAnswer & { notes: string[] }> {
  try {
    const reading = handle.table(table, {
      columns: options.columns,
      where: options.where,
      limit: options.limit,
      signal: session.io.signal,
    });
    const rows = await reading.all();
    const [header, summary] = await Promise.all([reading.header(), reading.summary]);
    const notes = summary.incomplete
      ? (summary.notes.length > 0 ? summary.notes : ["it kept changing"]).map(
          (note) => `the list is incomplete: ${note}`,
        )
      : [];
    if (session.common.verbose) {
      notes.push(`${table}: ${rows.length} rows in ${summary.microseconds} µs, ${summary.retried} read again`);
    }
    return { rows, header, notes };
  } catch (error) {
    throw (await explainUnknown(handle, table, options)) ?? error;
  }
}

/** A table or column that does not exist, with the one that was probably meant. Costs a round trip, on failure only. */
async function explainUnknown(
  handle: GuestHandle,
  table: string,
  options: TableOptions,
): Promise<CliError | undefined> {
  let specs: TableSpec[];
  try {
    specs = await handle.tables();
  } catch {
    // Then the first failure is the one to tell.
    return undefined;
  }
  const spec = specs.find(({ name }) => name === table);
  const known = spec === undefined ? specs : spec.columns;
  const asked = spec === undefined ? [table] : [...(options.columns ?? []), ...Object.keys(options.where ?? {})];
  const names = known.map(({ name }) => name);
  const unknown = asked.find((name) => !names.includes(name));
  if (unknown === undefined) return undefined;
  const meant = nearest(unknown, names);
  const what = spec === undefined ? `there is no table '${unknown}'` : `table ${table} has no column '${unknown}'`;
  const all = spec === undefined ? "`cloudvmi tables` lists them" : `it has ${names.join(", ")}`;
  return new CliError(exitCode.usage, `${what}: ${meant === undefined ? all : `did you mean '${meant}'?`}`);
}
