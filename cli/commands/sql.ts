import type { Command } from "commander";
import type { SqlCell, SqlReading, SqlRow, SqlSummary, TableSpec } from "../../sdk/index.ts";
import { exitCode, exitCodeOf, worst } from "../exit-code.ts";
import { CliError, usageError } from "../failure.ts";
import { toJson } from "../format/json.ts";
import type { Io } from "../io.ts";
import { startProgress } from "../progress.ts";
import { action, type CommonOptions, type Session } from "../session.ts";
import { addCommand, groups } from "./command.ts";

/** What statements are asked of. */
export interface SqlTarget {
  tables(): Promise<TableSpec[]>;
  run(statement: string, signal: AbortSignal): SqlReading;
}

/** Where the VMs come from: the service, or this machine. */
export interface SqlSource {
  readonly kind: "service" | "local";
  open(session: Session, vms: readonly string[], options: object): Promise<SqlTarget>;
}

/** The service runs the statement, over the VMs named or all of the caller's. */
export const serviceSql: SqlSource = {
  kind: "service",
  async open(session, vms) {
    const service = await session.service();
    return {
      tables: () => service.tables(),
      run: (statement, signal) => service.sql(statement, { vms, signal }),
    };
  },
};

interface SqlOptions extends CommonOptions {
  vm?: string[];
}

export function addSqlCommand(parent: Command, io: Io, source: SqlSource): void {
  const local = source.kind === "local";
  const line = (statement: string) => (local ? `local sql "${statement}" --qmp web1.qmp` : `sql "${statement}"`);
  const command = addCommand(
    parent,
    "sql",
    {
      summary: local ? "Ask in SQL." : "Ask in SQL, over some VMs or all.",
      description:
        "One SELECT in SQLite's language. Every table has a column `vm` before its own; what could not be read is NULL.\n" +
        "Only the tables, columns, VMs and keys that the statement needs are read. Without a statement: a shell.",
      examples: [
        line("SELECT name, count(*) FROM processes GROUP BY name"),
        line("SELECT p.vm, p.pid, e.key FROM processes p JOIN process_envs e USING (vm, pid) WHERE p.name = 'sshd'"),
        ...(local ? [] : [`sql "SELECT vm, version FROM kernel_info" --vm web1 db1 --json`]),
        local ? "local sql --qmp web1.qmp" : "sql",
      ],
    },
    local ? undefined : groups.inside,
  ).argument("[statement]", "the statement; - reads statements from the standard input, each ended by ';'");
  if (!local) command.option("--vm <vm...>", "names or UUIDs (default: all of them)");
  command.action(
    action(io, async (session: Session, options: SqlOptions, statement?: string) => {
      const target = await source.open(session, options.vm ?? [], options);
      if (statement !== undefined && statement !== "-") {
        await show(session, target.run(statement, io.signal));
        return;
      }
      if (statement === undefined && io.stdin.isTTY !== true) {
        throw usageError('say what to ask: cloudvmi sql "SELECT …", or - to read statements from the standard input');
      }
      const { runScript, runShell } = await import("../sql-shell.ts");
      const ask = (text: string, signal: AbortSignal) => show(session, target.run(text, signal));
      if (statement === "-") await runScript(session, ask);
      else await runShell(session, target, ask);
    }),
  );
}

/** Prints an answer. Throws, once the rows are printed, when VMs could not be read. */
async function show(session: Session, reading: SqlReading): Promise<void> {
  const { printer, io } = session;
  if (printer.json) await streamJson(io, reading);
  else {
    let rows: SqlRow[];
    {
      using _progress = startProgress(io, "reading …");
      rows = await reading.all();
    }
    const columns = (await reading.columns()).map((name) => ({ name, align: alignment(rows, name) }));
    await printer.list(rows, columns);
  }
  await settle(session, await reading.summary);
}

/** Numbers line up on the right. */
function alignment(rows: readonly SqlRow[], name: string): "left" | "right" {
  const numeric = (cell: SqlCell | undefined) => cell === null || typeof cell === "number" || typeof cell === "bigint";
  return rows.length > 0 && rows.every((row) => numeric(row[name])) ? "right" : "left";
}

/** An array of rows, as they come; nothing before the first, as the statement may yet fail. */
async function streamJson(io: Io, reading: SqlReading): Promise<void> {
  let text = "[\n";
  let rows = 0;
  for await (const row of reading) {
    text += `${rows++ === 0 ? "" : ",\n"}${toJson(row)}`;
    if (text.length < 65_536) continue;
    await io.out.write(text);
    text = "";
  }
  await io.out.write(rows === 0 ? "[]\n" : `${text}\n]\n`);
}

/** What the answer lacks goes to stderr, and into the exit code. */
async function settle({ printer, common }: Session, summary: SqlSummary): Promise<void> {
  for (const { vm, table, note } of summary.notes) await printer.note(`${vm}: ${table} is incomplete: ${note}`);
  for (const { vm, message } of summary.failures) await printer.note(`${vm}: ${message}`);
  if (common.verbose) {
    for (const { table, columns, where, vms, rows } of summary.reads) {
      const by = where.length > 0 ? ` by ${where.join(", ")}` : "";
      await printer.note(`read ${rows} rows of ${table} (${columns.join(", ")})${by} from ${vms} VMs`);
    }
    await printer.note(`${summary.rows} rows in ${summary.microseconds} µs`);
  }
  if (summary.failures.length === 0) return;
  const code = worst(summary.failures.map((failure) => exitCodeOf(failure.code))) || exitCode.failed;
  const failed = new Set(summary.failures.map(({ vm }) => vm)).size;
  throw new CliError(code, `${failed} of ${Math.max(summary.vms, failed)} VMs could not be read (see above)`);
}
