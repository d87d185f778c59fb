// The shell of `cloudvmi sql`: statements over several lines until ';', commands that begin with a dot, completion, history.
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { Writable } from "node:stream";
import type { TableSpec } from "../sdk/index.ts";
import { nearest } from "../sql/nearest.ts";
import type { SqlTarget } from "./commands/sql.ts";
import { describeFailure, usageError } from "./failure.ts";
import { stateHome } from "./folders.ts";
import { sanitise } from "./format/sanitise.ts";
import type { Io } from "./io.ts";
import type { Session } from "./session.ts";
import { completions } from "./sql-completion.ts";
import { inOneLine, splitStatements } from "./sql-statements.ts";

type Ask = (statement: string, signal: AbortSignal) => Promise<void>;

const prompt = "sql> ";
const continuation = "...> ";
const kept = 1000;
/** More is no script that a person wrote. */
const maxScript = 4 << 20;

/** Runs statements from the standard input, up to the first that fails. */
export async function runScript({ io }: Session, ask: Ask): Promise<void> {
  let text = "";
  for await (const chunk of io.stdin) {
    text += String(chunk);
    if (text.length > maxScript) throw usageError("that is too long for statements");
  }
  const { statements, rest } = splitStatements(text);
  for (const statement of [...statements, ...(rest.trim() === "" ? [] : [rest.trim()])])
    await ask(statement, io.signal);
}

/** Talks with a person until `.quit` or the end of input. */
export async function runShell(session: Session, target: SqlTarget, ask: Ask): Promise<void> {
  const { io } = session;
  const history = openHistory(io.env);
  let specs: readonly TableSpec[] = await target.tables();
  let running: AbortController | undefined;
  let pending = "";
  const terminal = createInterface({
    input: io.stdin,
    output: writableOf(io),
    terminal: true,
    prompt,
    history: await history.read(),
    historySize: kept,
    removeHistoryDuplicates: true,
    // The whole statement so far says what its aliases are.
    completer: (line: string) => completions(specs, pending === "" ? line : `${pending}\n${line}`),
  });
  const typed = () => (terminal as unknown as { history: string[] }).history;
  const entries = wholeStatements(typed);
  const lines: string[] = [];
  let closed = false;
  let wake = () => {};
  terminal.on("line", (line) => {
    entries.add(line);
    lines.push(line);
    wake();
  });
  terminal.on("close", () => {
    closed = true;
    running?.abort(new Error("interrupted"));
    wake();
  });
  // Ends what runs, or takes back what has been typed.
  terminal.on("SIGINT", () => {
    lines.length = 0;
    if (running !== undefined) {
      running.abort(new Error("interrupted"));
      return;
    }
    pending = "";
    entries.forget();
    terminal.write(null, { ctrl: true, name: "e" });
    terminal.write(null, { ctrl: true, name: "u" });
    void io.out.write("\n");
    terminal.setPrompt(prompt);
    terminal.prompt();
  });
  io.signal.addEventListener("abort", () => terminal.close(), { once: true });

  const attempt = async (work: (signal: AbortSignal) => Promise<void>): Promise<void> => {
    running = new AbortController();
    try {
      await work(AbortSignal.any([running.signal, io.signal]));
    } catch (error) {
      const line = running.signal.aborted ? "interrupted" : describeFailure(error).line;
      await io.err.write(`cloudvmi: ${line}\n`);
    } finally {
      running = undefined;
    }
  };

  await io.out.write("SQL over the tables of your VMs: statements end with ';', .help tells more, .quit ends.\n");
  terminal.prompt();
  while (!closed) {
    const line = lines.shift();
    if (line === undefined) {
      await new Promise<void>((resolve) => (wake = resolve));
      continue;
    }
    if (pending === "" && line.trimStart().startsWith(".")) {
      const [command = "", argument] = line.trim().split(/\s+/, 2);
      if (command === ".quit" || command === ".exit") break;
      await attempt(async () => {
        specs = await target.tables();
        await io.out.write(dotCommand(command, argument, specs));
      });
    } else {
      const { statements, rest } = splitStatements(pending === "" ? line : `${pending}\n${line}`);
      pending = rest.trim() === "" ? "" : rest;
      for (const statement of statements) await attempt((signal) => ask(statement, signal));
    }
    // Now, and not at the end: whatever ends the shell, what was asked is kept.
    if (pending === "") await history.write(typed());
    if (closed) break;
    terminal.setPrompt(pending === "" ? prompt : continuation);
    terminal.prompt();
  }
  // The prompt of Ctrl-D has no end of its own.
  if (closed) await io.out.write("\n");
  terminal.close();
  const lost = await history.write(typed());
  if (lost !== undefined) await session.printer.note(`the history can't be kept: ${lost}`);
}

const help = `.help            this text
.tables          the tables
.schema [TABLE]  the columns of a table, or of all
.quit            leave (also Ctrl-D)
Statements are SQLite's SELECT, over several lines if you like, and end with ';'. Tab completes, Ctrl-C interrupts.
`;

/** What a command prints. Throws a usage error for what is none. */
export function dotCommand(command: string, argument: string | undefined, specs: readonly TableSpec[]): string {
  switch (command) {
    case ".help":
      return help;
    case ".tables":
      return specs.map(({ name }) => `${sanitise(name)}\n`).join("");
    case ".schema": {
      if (argument === undefined) return specs.map(schemaOf).join("");
      const wanted = argument.replace(/;$/, "");
      const spec = specs.find(({ name }) => name === wanted);
      if (spec !== undefined) return schemaOf(spec);
      const meant = nearest(
        wanted,
        specs.map(({ name }) => name),
      );
      throw usageError(
        `there is no table '${wanted}': ${meant === undefined ? ".tables lists them" : `did you mean '${meant}'?`}`,
      );
    }
    default:
      throw usageError(`there is no command ${command}: .help lists them`);
  }
}

const typeNames = ["", "INTEGER", "REAL", "TEXT"];

function schemaOf({ name, description, columns, required }: TableSpec): string {
  const needs = required.length > 0 ? ` Needs WHERE with ${required.join(" or ")}.` : "";
  const own = columns.map((column) => [column.name, typeNames[column.type] ?? "", column.description] as const);
  const all = [["vm", "TEXT", "the VM that the row is of"] as const, ...own];
  const lines = all.map(([column, type, meaning], at) => {
    const comma = at < all.length - 1 ? "," : "";
    return `  ${sanitise(`${column} ${type}${comma}`).padEnd(34)} -- ${sanitise(meaning)}\n`;
  });
  return `-- ${sanitise(description)}${sanitise(needs)}\nCREATE TABLE ${sanitise(name)} (\n${lines.join("")});\n`;
}

/** Makes one entry of the lines of a statement, which readline puts into the history (newest first) one by one. */
function wholeStatements(history: () => string[]) {
  let open: string[] = [];
  return {
    /** A line that readline has just put there. Several may come before the first of them is run. */
    add(line: string): void {
      if (open.length === 0 && line.trimStart().startsWith(".")) return;
      open.push(line);
      const text = open.join("\n");
      if (splitStatements(text).rest.trim() !== "") return;
      const entry = open.length > 1 ? inOneLine(text) : undefined;
      if (entry !== undefined) {
        const entries = history();
        for (const part of open.toReversed()) if (entries[0] === part) entries.shift();
        const same = entries.indexOf(entry);
        if (same >= 0) entries.splice(same, 1);
        entries.unshift(entry);
      }
      open = [];
    },
    /** What has been typed is taken back. */
    forget(): void {
      open = [];
    },
  };
}

/** The file of what was typed, the newest last; readline has it the other way round. */
function openHistory(env: NodeJS.ProcessEnv) {
  const path = join(stateHome(env), "cloudvmi", "sql_history");
  return {
    async read(): Promise<string[]> {
      const text = await readFile(path, "utf8").catch(() => "");
      const lines = text.split("\n").filter((line) => line !== "");
      return lines.reverse().slice(0, kept);
    },
    /** Returns why it could not be written. */
    async write(lines: readonly string[]): Promise<string | undefined> {
      const temporary = `${path}.${process.pid}`;
      try {
        await mkdir(dirname(path), { recursive: true, mode: 0o700 });
        // What is asked tells of what is looked for: it is this user's alone, whatever the file was before.
        await writeFile(temporary, `${lines.toReversed().join("\n")}\n`, { mode: 0o600 });
        await rename(temporary, path);
        return undefined;
      } catch (error) {
        return describeFailure(error).line;
      }
    },
  };
}

/** The output as readline needs it: in order with what is written to it directly. */
function writableOf({ out }: Io): Writable {
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      out.write(chunk).catch(() => {});
      done();
    },
  });
  return Object.defineProperty(stream, "columns", { get: () => out.columns });
}
