// What SQLite finds wrong with a statement, as the one line that its writer gets.
import { Code, ConnectError } from "@connectrpc/connect";
import { nearest } from "../nearest.ts";
import { outOfMemory, tooLong } from "./memory.ts";
import { type SqlTable, vmColumn } from "./schema.ts";
import type { Tables } from "./virtual-tables.ts";

const NOMEM = 7;
const INTERRUPT = 9;
const TOOBIG = 18;
const AUTH = 23;

export const outOfTime = (ms: number) =>
  new ConnectError(`the statement has not ended within ${ms / 1000} s: narrow it with WHERE`, Code.DeadlineExceeded);

/** SQLite repeats parts of the statement, line ends and all. */
const wrong = (message: string) => new ConnectError(message.replace(/\s+/g, " ").trim(), Code.InvalidArgument);

export const onlySelect = () =>
  wrong("only SELECT is possible here: the tables show guests as they are, and nothing is stored");

/** @param code an extended result code */
export function complaint(code: number, message: string, work: Tables, timeoutMs: number): ConnectError {
  switch (code & 0xff) {
    case NOMEM:
      return outOfMemory();
    case INTERRUPT:
      return outOfTime(timeoutMs);
    case TOOBIG:
      return tooLong();
    case AUTH:
      return denied(message, work);
    default:
      // Of these SQLite says so, but under the code of any error.
      if (functionDenied.test(message)) return denied(message, work);
      if (/^table .* may not be modified$/.test(message)) return onlySelect();
      return wrong(explained(message, work));
  }
}

function denied(message: string, work: Tables): ConnectError {
  const table = /^access to (?:\w+\.)?([^.]+)\..* is prohibited$/.exec(message)?.[1];
  if (table !== undefined) return wrong(noTable(table, work));
  const called = functionDenied.exec(message)?.[1];
  return called === undefined ? onlySelect() : wrong(`there is no function ${called} here`);
}

const functionDenied = /^not authorized to use function: (.+)$/;

function explained(message: string, work: Tables): string {
  const table = /^no such table: (?:main\.)?(.+)$/.exec(message)?.[1];
  if (table !== undefined) return noTable(table, work);
  const column = /^no such column: (.+?)(?: - should this be a string literal in single-quotes\?)?$/.exec(message)?.[1];
  if (column !== undefined) return noColumn(column.replaceAll('"', ""), message, work);
  if (message === "no query solution") {
    const [first] = work.lacking;
    if (first !== undefined) return lacksConstraint(first);
  }
  return message;
}

/** For a table that can't be read as a whole. */
export function lacksConstraint({ name, required }: SqlTable): string {
  const [first, ...others] = required.map((column) => `${column} = …`);
  const also = others.length > 0 ? ` (or ${others.join(", ")})` : "";
  return `table ${name} needs WHERE ${first}${also}: it has too many rows to be read as a whole`;
}

function noTable(name: string, { tables }: Tables): string {
  const meant = nearest(name, tables.keys());
  return `there is no table '${name}'${meant === undefined ? "" : `: did you mean '${meant}'?`}`;
}

function noColumn(name: string, message: string, { named }: Tables): string {
  const quoted = message.includes("single-quotes") ? " (a text is written in single quotes)" : "";
  const [qualifier, column] = name.includes(".") ? name.split(".").slice(-2) : ["", name];
  const own = [...named].find((table) => table.name === qualifier);
  const among = own === undefined ? [...named] : [own];
  const meant = nearest(
    column!,
    among.flatMap((table) => [vmColumn, ...table.columns.map((each) => each.name)]),
  );
  return `there is no column '${name}'${quoted}${meant === undefined ? "" : `: did you mean '${meant}'?`}`;
}
