// One statement, from its text to its last row: SQLite plans it, what the plan needs is read all at once, and SQLite runs it
// over what has come. Everything waits in place: the thread serves one statement at a time.
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  type SqlFailure,
  SqlFailureSchema,
  type SqlNote,
  SqlNoteSchema,
  SqlReadSchema,
  SqlSummarySchema,
} from "../../proto/gen/cloudvmi/v1/sql_pb.ts";
import type { EngineSide, Job, NumberedNeed, ToEngine } from "../protocol.ts";
import { Answer } from "./answer.ts";
import { decodeBatch } from "./batch.ts";
import { confine, maxStatement } from "./bounds.ts";
import { complaint, lacksConstraint, onlySelect, outOfTime } from "./complaint.ts";
import { combined } from "./needs.ts";
import { type Instruction, maxValues, type Need, needOf, plannedUses, type Use, type Value } from "./plan.ts";
import { Relation } from "./relation.ts";
import { DONE, OK, ROW, type Sqlite } from "./sqlite.ts";
import { addTables, type Tables } from "./virtual-tables.ts";

/** A message of the answer is sent when it is this long, or this old. */
const messageBytes = 1 << 16;
const messageMs = 50;
/** Of messages that the reader of the rows has not taken yet; SQLite waits for him then. */
const bytesAhead = 4 * messageBytes;
/** Of failures, notes and reads each; of the first two more are counted. */
const listed = 1000;
/** Characters of what is said of a VM: a guest may have a part in it. */
const longestSaid = 1000;

interface Read extends NumberedNeed {
  readonly relation: Relation;
  /** VMs of which nothing is taken any more. */
  readonly failed: Set<number>;
  rows: number;
  retried: number;
  complete: boolean;
}

/** Runs the job; its rows and its end go to `line`. Throws ConnectError: one line for the writer of the statement. */
export function runStatement(sqlite: Sqlite, job: Job, line: EngineSide): void {
  const started = performance.now() - job.waitedMs;
  const { exports, wasm } = sqlite;
  const { limits, vms } = job;
  const left = () => limits.timeoutMs - (performance.now() - started);
  const reads: Read[] = [];
  const failures: SqlFailure[] = [];
  const notes: SqlNote[] = [];
  const said = new Set<string>();
  const planned = new Map<number, Relation>();
  /** Reads for values that came up while the statement ran, by what was asked. */
  const late = new Map<string, Relation>();
  let lateReads = 0;
  let ahead = 0;
  let unlisted = 0;
  let firstRow = 0;

  const work: Tables = {
    tables: new Map(job.tables.map((table) => [table.name, table])),
    vms,
    uses: new Map(),
    named: new Set(),
    lacking: new Set(),
    planned,
    readNow,
  };

  /** Tells what is to be read; it comes with the messages that follow. */
  function ask(needs: readonly Need[]): Read[] {
    const asked = needs.map((need, at): Read => {
      const table = work.tables.get(need.table)!;
      const columns = need.columns.map((name) => table.columns.find((column) => column.name === name)!);
      const numbers: number[] = [];
      for (const vm of need.vms ?? vms) {
        const number = vms.indexOf(vm);
        if (number >= 0) numbers.push(number);
        else fail(vm, "", { code: Code.NotFound, message: `there is no VM '${vm}' among those asked` });
      }
      const relation = new Relation(sqlite, columns);
      return {
        read: reads.length + at,
        need,
        vms: numbers,
        relation,
        failed: new Set(),
        rows: 0,
        retried: 0,
        complete: false,
      };
    });
    reads.push(...asked);
    line.send({ kind: "needs", needs: asked.map(({ read, need, vms: numbers }) => ({ read, need, vms: numbers })) });
    while (!asked.every(({ complete }) => complete)) take();
    return asked;
  }

  /** Whether this has been said already, or there is no more room for it. */
  function isNew(list: readonly unknown[], ...words: readonly string[]): boolean {
    const key = JSON.stringify(words);
    if (said.has(key)) return false;
    if (list.length < listed) said.add(key);
    else unlisted++;
    return list.length < listed;
  }

  function fail(vm: string, table: string, failure: { code: number; message: string }): void {
    const message = failure.message.slice(0, longestSaid);
    if (isNew(failures, vm, table, message)) {
      failures.push(create(SqlFailureSchema, { vm, table, code: failure.code, message }));
    }
  }

  function note(vm: string, table: string, text: string): void {
    const cut = text.slice(0, longestSaid);
    if (isNew(notes, vm, table, cut, "note")) notes.push(create(SqlNoteSchema, { vm, table, note: cut }));
  }

  /** Takes the next message. */
  function take(): void {
    const message = line.receive(Math.max(left(), 0));
    if (message === undefined) throw outOfTime(limits.timeoutMs);
    if (message.kind === "taken") ahead -= message.bytes;
    else accept(message);
  }

  function accept(message: Exclude<ToEngine, { kind: "taken" }>): void {
    const read = reads[message.read]!;
    if (message.kind === "complete") {
      read.complete = true;
    } else if (message.kind === "failed") {
      read.relation.drop(message.vm);
      read.failed.add(message.vm);
      fail(vms[message.vm]!, read.need.table, message.failure);
    } else {
      const { bytes } = message;
      line.send({ kind: "stored", bytes: bytes.length });
      if (read.failed.has(message.vm)) return;
      let decoded: ReturnType<typeof decodeBatch>;
      try {
        decoded = decodeBatch(sqlite, bytes, read.relation.columns);
      } catch (error) {
        const { code, rawMessage } = ConnectError.from(error);
        // That is the statement's end, not that VM's.
        if (code === Code.ResourceExhausted) throw error;
        accept({ kind: "failed", read: message.read, vm: message.vm, failure: { code, message: rawMessage } });
        return;
      }
      const { batch, summary } = decoded;
      if (batch !== undefined) {
        read.relation.add(message.vm, batch, firstRow);
        read.rows += batch.rows;
        firstRow += batch.rows;
      }
      if (summary === undefined) return;
      read.retried += summary.retried;
      if (!summary.incomplete) return;
      const why = summary.notes.length > 0 ? summary.notes : ["it kept changing"];
      for (const each of why) note(vms[message.vm]!, read.need.table, each);
    }
  }

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
    const [read] = ask([need]);
    late.set(key, read!.relation);
    return read!.relation;
  }

  const isOver = () => left() <= 0;
  confine(sqlite, limits.memoryBytes, isOver);
  addTables(sqlite, work);
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
    const { needs, needOfUse } = combined(plannedUses(programOf(sqlite, statement, check), work.uses));
    if (needs.length > 0) {
      const asked = ask(needs);
      for (const [use, need] of needOfUse) planned.set(use, asked[need]!.relation);
    }
    failIfNothing(reads, failures);
  }

  const answer = new Answer(sqlite, columns);
  let sent = performance.now();
  const send = (bytes: Uint8Array<ArrayBuffer>) => {
    while (ahead > 0 && ahead + bytes.length > bytesAhead) take();
    ahead += bytes.length;
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
  const summary = create(SqlSummarySchema, {
    rows: BigInt(answer.rows),
    vms: vms.length,
    failures,
    notes,
    unlisted,
    retried: BigInt(reads.reduce((sum, { retried }) => sum + retried, 0)),
    reads: reads.slice(0, listed).map(({ need, vms: numbers, rows, retried }) =>
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

/** When no VM could be read at all, the answer would be of nothing: it is the failure instead. */
function failIfNothing(reads: readonly Read[], failures: readonly SqlFailure[]): void {
  const [first] = failures;
  const answered = reads.some(({ vms, failed }) => failed.size < vms.length);
  if (first === undefined || answered) return;
  const asked = new Set(failures.map(({ vm }) => vm)).size;
  const message = asked === 1 ? first.message : `none of ${asked} VMs could be read; ${first.vm}: ${first.message}`;
  throw new ConnectError(message, first.code as Code);
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
