// What a statement may do, and how much of it. Actions that are not named here are denied.
import type { Sqlite } from "./sqlite.ts";

/** Bytes of a statement's text. */
export const maxStatement = 65_536;

/** Bytes of a text, and of a row of the answer: one of its messages holds it. */
export const maxRow = 16 << 20;

/** Actions of sqlite3_set_authorizer: https://sqlite.org/c3ref/c_alter_table.html */
const ACTION = { read: 20, select: 21, function: 31, recursive: 33 } as const;
const DENY = 1;

/** SQLite's tables about itself. What else can be named is a table of ours, or made by the statement (WITH). */
const ownTables = /^(?:sqlite_|pragma_|dbstat$|bytecode$|tables_used$|fts5|rtree)/;
/** Functions of extensions that keep tables of their own, and those that tell of the database file. */
const denied = /^(?:fts5|rtree|sqlite_(?:log|offset)|match$|snippet$|highlight$|bm25$)/;

/** Limits of sqlite3_limit: https://sqlite.org/c3ref/c_limit_attached.html */
const limits: Readonly<Record<number, number>> = {
  // A text or a row of SQLite's own.
  0: maxRow,
  1: maxStatement,
  // Columns of a result.
  2: 1000,
  // Depth of an expression.
  3: 200,
  // SELECTs in a compound.
  4: 100,
  // Instructions of a program.
  5: 250_000,
  // Attached databases.
  7: 0,
  // Bytes of a pattern of LIKE and GLOB.
  8: 1000,
};

/** SQLite's virtual machine works this many instructions between two looks at the clock. */
const stride = 4000;

/** Confines a database: nothing but SELECT from the tables, within memory and until `isOver` says so. */
export function confine({ capi, exports, db }: Sqlite, memoryBytes: number, isOver: () => boolean): void {
  if (capi.sqlite3_exec(db, `PRAGMA hard_heap_limit=${memoryBytes}`, 0, 0, 0) !== 0) {
    throw new Error("SQLite does not take a limit of memory");
  }
  for (const [which, value] of Object.entries(limits)) exports.sqlite3_limit(db, Number(which), value);
  capi.sqlite3_progress_handler(db, stride, () => (isOver() ? 1 : 0), 0);
  const decide = (_data: number, action: number, first: string | null, second: string | null): number => {
    switch (action) {
      case ACTION.select:
      case ACTION.recursive:
        return 0;
      case ACTION.function:
        return denied.test((second ?? "").toLowerCase()) ? DENY : 0;
      case ACTION.read:
        return ownTables.test((first ?? "").toLowerCase()) ? DENY : 0;
      default:
        return DENY;
    }
  };
  capi.sqlite3_set_authorizer(db, decide, 0);
}
