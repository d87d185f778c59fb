// One statement, from its text to its last row: SQLite plans it, what the plan needs is asked for all at once, and SQLite runs
// it over what has come, and waits where it comes to a VM that has not answered. Everything waits in place: the thread serves
// one statement at a time.
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { SqlReadSchema, SqlSummarySchema } from "../../proto/gen/cloudvmi/v1/sql_pb.ts";
import type { EngineSide, Job } from "../protocol.ts";
import { Answer } from "./answer.ts";
import { confine, maxStatement } from "./bounds.ts";
import { complaint, lacksConstraint, onlySelect } from "./complaint.ts";
import { combined } from "./needs.ts";
import { type Instruction, maxValues, needOf, plannedUses, type Use, type Value } from "./plan.ts";
import { Reads } from "./reads.ts";
import type { Relation } from "./relation.ts";
import { DONE, OK, ROW, type Sqlite } from "./sqlite.ts";
import { addTables, type Tables } from "./virtual-tables.ts";

/** A message of the answer is sent when it is this long, or this old. */
const messageBytes = 1 << 16;
const messageMs = 50;
/** Of messages that the reader of the rows has not taken yet; SQLite waits for him then. */
const bytesAhead = 4 * messageBytes;
/** Reads that the summary tells of. */
const listed = 1000;

/**
 * Runs the job; its rows and its end go to `line`. Throws ConnectError: one line for the writer of the statement. Anything
 * else that it throws is a defect.
 */
export function runStatement(sqlite: Sqlite, job: Job, line: EngineSide): void {
  const started = performance.now() - job.waitedMs;
  const { exports, wasm } = sqlite;
  const { limits, vms } = job;
  const left = () => limits.timeoutMs - (performance.now() - started);
  const planned = new Map<number, Relation>();
  /** Reads for values that came up while the statement ran, by what was asked. */
  const late = new Map<string, Relation>();
  let lateReads = 0;
  const tables = new Map(job.tables.map((table) => [table.name, table]));
  const reads = new Reads({ sqlite, line, tables, vms, timeoutMs: limits.timeoutMs, left });

  const work: Tables = {
    tables,
    vms,
    uses: new Map(),
    named: new Set(),
    lacking: new Set(),
    planned,
    readNow,
  };

  function readNow(use: Use, values: readonly (readonly Value[])[]): Relation {
    if (values.some((each) => each.length > maxValues)) {
      throw new ConnectError(
        `table ${use.table.name} would be read for more than ${maxValues} values at once: give fewer`,
        Code.ResourceExhausted,
      );
    }
    const need = needOf(use, values);
    if (need === undefined) throw new ConnectError(lacksConstraint(use.table), Code.InvalidArgument);
    const key = JSON.stringify(need);
    const known = late.get(key);
    if (known !== undefined) return known;
    lateReads += need.vms?.length ?? vms.length;
    if (lateReads > limits.lateReads) {
      throw new ConnectError(
        `table ${need.table} would be read for more than ${limits.lateReads} values: give fewer, ` +
          `or name the VM of each (a.vm = b.vm)`,
        Code.ResourceExhausted,
      );
    }
    reads.waitForAny();
    const { relation } = reads.ask([need])[0]!;
    while (!relation.isComplete) reads.take();
    late.set(key, relation);
    return relation;
  }

  confine(sqlite, limits.memoryBytes, () => {
    reads.drain();
    return left() <= 0;
  });
  const isOurs = addTables(sqlite, work);
  const check = (status: number) => {
    if (status === OK || status === ROW || status === DONE) return status;
    throw complaint(exports.sqlite3_extended_errcode(sqlite.db), sqlite.errorMessage(), work, limits.timeoutMs);
  };
  const statement = prepare(sqlite, job.statement, check);
  const columns = uniqueNames(
    Array.from({ length: exports.sqlite3_column_count(statement) }, (_, column) =>
      wasm.cstrToJs(exports.sqlite3_column_name(statement, column)),
    ),
  );

  // A statement that only explains reads nothing.
  if (exports.sqlite3_stmt_isexplain(statement) === 0) {
    const { needs, needOfUse } = combined(plannedUses(programOf(sqlite, statement, check), work.uses, isOurs));
    const asked = needs.length > 0 ? reads.ask(needs) : [];
    for (const [use, need] of needOfUse) planned.set(use, asked[need]!.relation);
  }

  const answer = new Answer(sqlite, columns);
  let sent = performance.now();
  const send = (bytes: Uint8Array<ArrayBuffer>) => {
    reads.waitForAny();
    while (reads.ahead > 0 && reads.ahead + bytes.length > bytesAhead) reads.take();
    reads.ahead += bytes.length;
    line.send({ kind: "rows", bytes }, [bytes.buffer]);
    sent = performance.now();
  };
  while (check(exports.sqlite3_step(statement)) === ROW) {
    if (answer.rows >= limits.rows) {
      throw new ConnectError(
        `the answer has more than ${limits.rows} rows: narrow it with WHERE, or add LIMIT`,
        Code.ResourceExhausted,
      );
    }
    answer.add(statement, columns.length);
    if (answer.size >= messageBytes || performance.now() - sent > messageMs) send(answer.take());
  }
  reads.finish();
  const { all, failures, notes, unlisted } = reads;
  const summary = create(SqlSummarySchema, {
    rows: BigInt(answer.rows),
    vms: vms.length,
    failures,
    notes,
    unlisted,
    retried: BigInt(all.reduce((sum, { retried }) => sum + retried, 0)),
    reads: all.slice(0, listed).map(({ need, vms: numbers, rows, retried }) =>
      create(SqlReadSchema, {
        table: need.table,
        columns: [...need.columns],
        where: need.where.map(({ column }) => column),
        vms: numbers.length,
        rows: BigInt(rows),
        retried: BigInt(retried),
      }),
    ),
    microseconds: BigInt(Math.round((performance.now() - started) * 1000)),
  });
  send(answer.end(summary));
}

/** Returns the prepared statement; throws when it isn't one SELECT. */
function prepare(sqlite: Sqlite, text: string, check: (status: number) => number): number {
  const { exports, wasm, db, place, peek } = sqlite;
  if (text.includes("\0")) throw new ConnectError("a statement has no NUL characters", Code.InvalidArgument);
  const length = Buffer.byteLength(text);
  if (length > maxStatement) {
    throw new ConnectError(`a statement has at most ${maxStatement / 1024} KiB`, Code.InvalidArgument);
  }
  const source = sqlite.text(text);
  check(exports.sqlite3_prepare_v3(db, source, -1, 0, place, place + 4));
  const statement = peek(place);
  const rest = wasm.cstrToJs(peek(place + 4));
  if (statement === 0) throw new ConnectError("there is no statement: write SELECT …", Code.InvalidArgument);
  // What gives no rows may still be taken for harmless, as REINDEX of nothing.
  if (exports.sqlite3_stmt_readonly(statement) === 0 || exports.sqlite3_column_count(statement) === 0)
    throw onlySelect();
  check(exports.sqlite3_prepare_v3(db, sqlite.text(rest), -1, 0, place, place + 4));
  if (peek(place) !== 0)
    throw new ConnectError("one statement at a time: end it at its first ';'", Code.InvalidArgument);
  return statement;
}

/** The statement's program, as EXPLAIN shows it. */
function programOf(sqlite: Sqlite, statement: number, check: (status: number) => number): Instruction[] {
  const { exports, wasm } = sqlite;
  const integer = (column: number) => Number(exports.sqlite3_column_double(statement, column));
  const text = (column: number) => {
    const at = exports.sqlite3_column_text(statement, column);
    return at === 0 ? undefined : wasm.cstrToJs(at);
  };
  const program: Instruction[] = [];
  check(exports.sqlite3_stmt_explain(statement, 1));
  while (check(exports.sqlite3_step(statement)) === ROW) {
    program.push({ opcode: text(1) ?? "", p1: integer(2), p2: integer(3), p3: integer(4), p4: text(5) });
  }
  check(exports.sqlite3_reset(statement));
  check(exports.sqlite3_stmt_explain(statement, 0));
  return program;
}

/** Names as SQLite itself makes them unique where it must: the second `pid` is `pid:1`. */
function uniqueNames(names: readonly string[]): string[] {
  const taken = new Set<string>();
  return names.map((name) => {
    let unique = name;
    for (let number = 1; taken.has(unique); number++) unique = `${name}:${number}`;
    taken.add(unique);
    return unique;
  });
}
