// What a statement reads: what has been asked for, what has come of it, and what there is to say of the VMs.
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { type SqlFailure, SqlFailureSchema, type SqlNote, SqlNoteSchema } from "../../proto/gen/cloudvmi/v1/sql_pb.ts";
import type { EngineSide, Failure, NumberedNeed, ToEngine } from "../protocol.ts";
import { decodeBatch } from "./batch.ts";
import { outOfTime } from "./complaint.ts";
import type { Need } from "./plan.ts";
import { Relation } from "./relation.ts";
import type { SqlTable } from "./schema.ts";
import type { Sqlite } from "./sqlite.ts";

/** Of failures and notes each; more are counted. */
const listed = 1000;
/** Characters of what is said of a VM: a guest may have a part in it. */
const maxSaid = 1000;

export interface Read extends NumberedNeed {
  readonly relation: Relation;
  /** VMs of which nothing is taken any more. */
  readonly failed: Set<number>;
  /** VMs that have answered to the end. */
  answered: number;
  rows: number;
  retried: number;
}

/** What the reads of a statement work with. */
export interface ReadsOptions {
  readonly sqlite: Sqlite;
  readonly line: EngineSide;
  readonly tables: ReadonlyMap<string, SqlTable>;
  readonly vms: readonly string[];
  readonly timeoutMs: number;
  /** Milliseconds that the statement has left. */
  left(): number;
}

export class Reads {
  readonly all: Read[] = [];
  readonly failures: SqlFailure[] = [];
  readonly notes: SqlNote[] = [];
  /** Failures and notes that there was no room for. */
  unlisted = 0;
  /** Bytes of the answer that its reader has not taken yet. */
  ahead = 0;
  readonly #options: ReadsOptions;
  readonly #said = new Set<string>();
  /** VMs of reads that have not ended. */
  #open = 0;
  /** Rows that have come. */
  #rows = 0;
  #isKnown = false;

  constructor(options: ReadsOptions) {
    this.#options = options;
  }

  /** Tells what is to be read; it comes with the messages that follow. */
  ask(needs: readonly Need[]): Read[] {
    const { sqlite, line, tables, vms } = this.#options;
    const asked = needs.map((need, at): Read => {
      const table = tables.get(need.table)!;
      const columns = need.columns.map((name) => table.columns.find((column) => column.name === name)!);
      const numbers: number[] = [];
      for (const vm of need.vms ?? vms) {
        const number = vms.indexOf(vm);
        if (number >= 0) numbers.push(number);
        else this.#fail(vm, "", { code: Code.NotFound, message: `there is no VM '${vm}' among those asked` });
      }
      this.#open += numbers.length;
      const relation = new Relation(sqlite, columns, numbers, () => this.take());
      const read = this.all.length + at;
      return { read, need, vms: numbers, relation, failed: new Set(), answered: 0, rows: 0, retried: 0 };
    });
    this.all.push(...asked);
    line.send({ kind: "needs", needs: asked.map(({ read, need, vms: numbers }) => ({ read, need, vms: numbers })) });
    return asked;
  }

  /** Waits for the next message, and takes it. */
  take(): void {
    const { line, timeoutMs, left } = this.#options;
    const message = line.receive(Math.max(left(), 0));
    if (message === undefined) throw outOfTime(timeoutMs);
    this.#accept(message);
  }

  /** Takes what is there: while SQLite works, the VMs' answers must not stand still. */
  drain(): void {
    const { line, left } = this.#options;
    while (this.#open > 0 && left() > 0) {
      const message = line.receive(0);
      if (message === undefined) return;
      this.#accept(message);
    }
  }

  /** Waits until every VM has answered or failed. Throws as `waitForAny` does. */
  finish(): void {
    this.waitForAny();
    while (this.#open > 0) this.take();
  }

  /**
   * Waits until it is known that some VM could be read; when none could, the answer would be of nothing: throws why. What is
   * asked for once that is known does not count.
   */
  waitForAny(): void {
    if (this.#isKnown) return;
    const isAnswered = () => this.all.some(({ answered }) => answered > 0);
    while (!isAnswered() && this.#open > 0) this.take();
    const [first] = this.failures;
    if (first !== undefined && !isAnswered()) {
      const failed = new Set(this.failures.map(({ vm }) => vm)).size;
      const message =
        failed === 1 ? first.message : `none of ${failed} VMs could be read; ${first.vm}: ${first.message}`;
      throw new ConnectError(message, first.code as Code);
    }
    this.#isKnown = true;
  }

  #accept(message: ToEngine): void {
    if (message.kind === "taken") {
      this.ahead -= message.bytes;
      return;
    }
    const read = this.all[message.read]!;
    const { vm } = message;
    if (message.kind === "batch") {
      this.#options.line.send({ kind: "stored", bytes: message.bytes.length });
      if (!read.failed.has(vm)) this.#store(read, vm, message.bytes);
      return;
    }
    if (message.kind === "failed") this.#drop(read, vm, message.failure);
    else if (!read.failed.has(vm)) read.answered++;
    read.relation.end(vm);
    this.#open--;
  }

  #store(read: Read, vm: number, bytes: Uint8Array): void {
    let decoded: ReturnType<typeof decodeBatch>;
    try {
      decoded = decodeBatch(this.#options.sqlite, bytes, read.relation.columns);
    } catch (error) {
      const { code, rawMessage } = ConnectError.from(error);
      // That is the statement's end, not that VM's.
      if (code === Code.ResourceExhausted) throw error;
      this.#drop(read, vm, { code, message: rawMessage });
      return;
    }
    const { batch, summary } = decoded;
    if (batch !== undefined) {
      read.relation.add(vm, batch, this.#rows);
      read.rows += batch.rows;
      this.#rows += batch.rows;
    }
    if (summary === undefined) return;
    read.retried += summary.retried;
    if (!summary.incomplete) return;
    const why = summary.notes.length > 0 ? summary.notes : ["it kept changing"];
    for (const each of why) this.#note(vm, read.need.table, each);
  }

  #drop(read: Read, vm: number, failure: Failure): void {
    read.relation.drop(vm);
    read.failed.add(vm);
    this.#fail(this.#options.vms[vm]!, read.need.table, failure);
  }

  /** Whether this has been said already, or there is no more room for it. */
  #isNew(list: readonly unknown[], ...words: readonly string[]): boolean {
    const key = JSON.stringify(words);
    if (this.#said.has(key)) return false;
    if (list.length < listed) this.#said.add(key);
    else this.unlisted++;
    return list.length < listed;
  }

  #fail(vm: string, table: string, failure: Failure): void {
    const message = failure.message.slice(0, maxSaid);
    if (this.#isNew(this.failures, vm, table, message)) {
      this.failures.push(create(SqlFailureSchema, { vm, table, code: failure.code, message }));
    }
  }

  #note(vm: number, table: string, text: string): void {
    const name = this.#options.vms[vm]!;
    const note = text.slice(0, maxSaid);
    if (this.#isNew(this.notes, name, table, note, "note"))
      this.notes.push(create(SqlNoteSchema, { vm: name, table, note }));
  }
}
