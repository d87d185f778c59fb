import { Code } from "@connectrpc/connect";
import type { Command } from "commander";
import type { SqlReading, SqlSummary, TableSpec } from "../../sdk/index.ts";
import { exitCode, exitCodeOf, worst } from "../exit-code.ts";
import { CliError, usageError } from "../failure.ts";
import { toJson } from "../format/json.ts";
import type { Io } from "../io.ts";
import type { JsonRow } from "../print.ts";
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
    let names: readonly string[];
    {
      using _progress = startProgress(io, "reading …");
      names = await reading.columns();
    }
    await printer.listed(reading, (first) => names.map((name) => ({ name, align: alignment(first, name) })));
  }
  await settle(session, await reading.summary);
}

/** Numbers line up on the right. */
function alignment(rows: readonly JsonRow[], name: string): "left" | "right" {
  const numeric = (cell: unknown) => cell === null || typeof cell === "number" || typeof cell === "bigint";
  return rows.length > 0 && rows.every((row) => numeric(row[name])) ? "right" : "left";
}

/**
 * One object: the rows as they come, one a line, then what the answer lacks and how it came about. Nothing before the first row,
 * as the statement may yet fail.
 */
async function streamJson(io: Io, reading: SqlReading): Promise<void> {
  let text = `{"columns":${toJson(await reading.columns())},"rows":[`;
  let rows = 0;
  for await (const row of reading) {
    text += `${rows++ === 0 ? "\n" : ",\n"}${toJson(row)}`;
    if (text.length < 65_536) continue;
    await io.out.write(text);
    text = "";
  }
  const { failures, notes, reads, vms, retried, unlisted, microseconds } = await reading.summary;
  const summary = toJson({
    failures: failures.map(({ vm, table, code, message }) => ({ vm, table, code: statusName(code), message })),
    notes: notes.map(({ vm, table, note }) => ({ vm, table, note })),
    unlisted,
    vms,
    retried,
    reads: reads.map(({ $typeName: _, ...read }) => read),
    microseconds,
  });
  await io.out.write(`${text}${rows === 0 ? "" : "\n"}],${summary.slice(1)}\n`);
}

/** As Connect has it in JSON: failed_precondition. */
const statusName = (code: number) => (Code[code] ?? "Unknown").replace(/(?<=[a-z])(?=[A-Z])/g, "_").toLowerCase();

/** What the answer lacks goes to stderr, and into the exit code. */
async function settle({ printer, common }: Session, summary: SqlSummary): Promise<void> {
  for (const { vm, table, note } of summary.notes) await printer.note(`${vm}: ${table} is incomplete: ${note}`);
  for (const { vm, message } of summary.failures) await printer.note(`${vm}: ${message}`);
  if (summary.unlisted > 0) await printer.note(`${summary.unlisted} more could not be listed here`);
  if (common.verbose) {
    for (const { table, columns, where, vms, rows, retried } of summary.reads) {
      const by = where.length > 0 ? ` by ${where.join(", ")}` : "";
      const what = `${rows} rows of ${table} (${columns.join(", ")})${by} from ${vms} VMs`;
      await printer.note(`read ${what}, ${retried} walks begun again`);
    }
    await printer.note(`${summary.rows} rows in ${summary.microseconds} µs, ${summary.retried} walks begun again`);
  }
  if (summary.failures.length === 0) return;
  const code = worst(summary.failures.map((failure) => exitCodeOf(failure.code))) || exitCode.failed;
  const failed = new Set(summary.failures.map(({ vm }) => vm)).size;
  throw new CliError(code, `${failed} of ${Math.max(summary.vms, failed)} VMs could not be read (see above)`);
}
