// What goes between the thread that runs a statement and the one that reads tables for it.
import type { MessagePort } from "node:worker_threads";
import type { Need } from "./engine/plan.ts";
import type { SqlTable } from "./engine/schema.ts";

/** What a statement may take. */
export interface SqlLimits {
  /** From its arrival to its last row. */
  readonly timeoutMs: number;
  /** Rows of the answer. */
  readonly rows: number;
  /** Of SQLite: what is read, with indexes over it, and what it makes of it. */
  readonly memoryBytes: number;
  /** Reads, of one table of one VM each, for values that the statement finds while it runs. */
  readonly lateReads: number;
}

/** A statement for a thread to run. */
export interface Job {
  readonly statement: string;
  readonly tables: readonly SqlTable[];
  /** Values of the column `vm`. */
  readonly vms: readonly string[];
  readonly limits: SqlLimits;
  /** What has gone by of its time. */
  readonly waitedMs: number;
}

/** What a thread is given to begin with. */
export interface Start {
  readonly job: Job;
  readonly port: MessagePort;
  /** Rung at each message: the thread waits for it without its event loop. */
  readonly bell: SharedArrayBuffer;
}

/** A failure that stays one on its way between threads. */
export interface Failure {
  readonly code: number;
  readonly message: string;
}

/** To the thread that runs the statement. `read` is the number of a need, in the order in which they were told. */
export type ToEngine =
  | { readonly kind: "batch"; readonly read: number; readonly vm: number; readonly bytes: Uint8Array }
  /** The last of a VM for a read: it has answered, or what came of it is nothing. */
  | { readonly kind: "answered"; readonly read: number; readonly vm: number }
  | { readonly kind: "failed"; readonly read: number; readonly vm: number; readonly failure: Failure }
  /** The reader of the rows has taken this much of them. */
  | { readonly kind: "taken"; readonly bytes: number };

export type FromEngine =
  | { readonly kind: "needs"; readonly needs: readonly NumberedNeed[] }
  /** This much of batches has been put away: as much more may come. */
  | { readonly kind: "stored"; readonly bytes: number }
  /** A message of the answer. */
  | { readonly kind: "rows"; readonly bytes: Uint8Array }
  | { readonly kind: "done" }
  | { readonly kind: "failed"; readonly failure: Failure }
  /** An error that no statement should lead to, with its stack: for the log of whoever runs it, not for the one who asked. */
  | { readonly kind: "defect"; readonly error: unknown };

/** A need with its VMs by number. */
export interface NumberedNeed {
  readonly read: number;
  readonly need: Need;
  readonly vms: readonly number[];
}

/** The ends of the line between the two threads. */
export interface EngineSide {
  send(message: FromEngine, transfer?: readonly ArrayBuffer[]): void;
  /** Waits for the next message, without the event loop: SQLite's stack is under it. Undefined when time is up. */
  receive(timeoutMs: number): ToEngine | undefined;
}
