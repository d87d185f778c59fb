// A statement over many VMs: a thread runs it, and tells what is to be read; the caller's `read` reads it.
import { MessageChannel } from "node:worker_threads";
import { Code, ConnectError } from "@connectrpc/connect";
import { outOfMemory } from "./engine/memory.ts";
import type { SqlTable } from "./engine/schema.ts";
import type { FromEngine, NumberedNeed, SqlLimits, Start, ToEngine } from "./protocol.ts";
import { takeThread } from "./threads.ts";

/** What is read of one table of one VM. */
export interface TableRead {
  /** The VM's number in `vms`. */
  readonly vm: number;
  readonly table: string;
  readonly columns: readonly string[];
  /** Rows whose columns have one of the values; integers are written in decimal. */
  readonly where: readonly { readonly column: string; readonly values: readonly string[] }[];
  /** 0: no limit. */
  readonly limit: number;
  readonly signal: AbortSignal;
}

export interface SqlOptions {
  readonly tables: readonly SqlTable[];
  /** Values of the column `vm`, each once. */
  readonly vms: readonly string[];
  /** Encoded ReadTableResponses, each the caller's to keep; a ConnectError is a failure of that VM, any other error the end of the statement. */
  read(read: TableRead): AsyncIterable<Uint8Array>;
  readonly limits?: Partial<SqlLimits>;
  /** Whose statement it is: users take turns, and one's take no more than half of the threads. */
  readonly user?: string;
  readonly signal?: AbortSignal | undefined;
}

const defaultLimits: SqlLimits = {
  timeoutMs: 30_000,
  rows: 1_000_000,
  memoryBytes: 256 << 20,
  lateReads: 1000,
};

/** Reads under way at once, of those that are asked for together. */
const atOnce = 16;
/** Of batches that the thread has not put away yet: no more are taken from where they come. */
const bytesAhead = 1 << 20;
/** What a thread gets beyond its time, before it is ended from outside. */
const graceMs = 500;

/**
 * Runs one SELECT. Yields encoded QueryResponses: the columns come with the first, the summary with the last. Throws
 * ConnectErrors: InvalidArgument for what is wrong with the statement, ResourceExhausted, DeadlineExceeded, or, when nothing
 * at all could be read, why. Any other error is a defect: it may name files of the host, and is not for who asked.
 */
export async function* runSql(statement: string, options: SqlOptions): AsyncGenerator<Uint8Array> {
  const limits = { ...defaultLimits, ...options.limits };
  const { tables, vms } = options;
  const ending = new AbortController();
  options.signal?.throwIfAborted();
  const arrivedMs = performance.now();
  const thread = await takeThread(options.user ?? "", limits.timeoutMs, options.signal);
  const signal = AbortSignal.any([
    ending.signal,
    thread.signal,
    ...(options.signal === undefined ? [] : [options.signal]),
  ]);
  const waitedMs = performance.now() - arrivedMs;
  const { port1: ours, port2: theirs } = new MessageChannel();
  const bell = new SharedArrayBuffer(4);
  const ring = new Int32Array(bell);
  const arrived: FromEngine[] = [];
  let wake = () => {};
  let ended = false;
  const room = roomOf(bytesAhead);

  const post = (message: ToEngine, transfer: ArrayBuffer[] = []) => {
    ours.postMessage(message, transfer);
    Atomics.add(ring, 0, 1);
    Atomics.notify(ring, 0);
  };
  const arrive = (message: FromEngine) => {
    if (message.kind === "needs") {
      readAll(message.needs, options, signal, room, post).catch((error: unknown) => arrive({ kind: "defect", error }));
    } else if (message.kind === "stored") room.give(message.bytes);
    else {
      arrived.push(message);
      wake();
    }
  };
  const failWith = (code: Code, message: string) => arrive({ kind: "failed", failure: { code, message } });
  const onError = (error: Error & { code?: string }) => {
    if (error.code === "ERR_WORKER_OUT_OF_MEMORY") failWith(Code.ResourceExhausted, outOfMemory().rawMessage);
    else arrive({ kind: "defect", error });
  };
  const onAbort = () => {
    wake();
    // Those who wait for it do not wait for who reads this answer.
    if (thread.signal.aborted) thread.release(false);
  };
  const overdue = setTimeout(
    () => failWith(Code.DeadlineExceeded, `the statement has not ended within ${limits.timeoutMs / 1000} s`),
    limits.timeoutMs - waitedMs + graceMs,
  );
  ours.on("message", arrive);
  thread.worker.on("error", onError);
  signal.addEventListener("abort", onAbort);
  try {
    const start: Start = { job: { statement, tables, vms, limits, waitedMs }, port: theirs, bell };
    thread.worker.postMessage(start, [theirs]);
    for (;;) {
      signal.throwIfAborted();
      const message = arrived.shift();
      if (message === undefined) {
        await new Promise<void>((resolve) => (wake = resolve));
      } else if (message.kind === "rows") {
        const { length } = message.bytes;
        yield message.bytes;
        post({ kind: "taken", bytes: length });
      } else if (message.kind === "failed") {
        ended = message.failure.code !== Code.DeadlineExceeded;
        throw new ConnectError(message.failure.message, message.failure.code);
      } else if (message.kind === "defect") {
        throw message.error;
      } else if (message.kind === "done") {
        ended = true;
        return;
      }
    }
  } finally {
    clearTimeout(overdue);
    signal.removeEventListener("abort", onAbort);
    thread.worker.off("error", onError);
    ours.close();
    ending.abort(new ConnectError("the statement has ended", Code.Canceled));
    room.close();
    thread.release(ended);
  }
}

/** Room for so many bytes, which are taken before they are used and given back after. */
interface Room {
  /** Waits until they fit; more than fits at all waits until nothing else is there. */
  take(bytes: number): Promise<void>;
  give(bytes: number): void;
  /** Nobody waits any more. */
  close(): void;
}

function roomOf(most: number): Room {
  let used = 0;
  const waiting: { bytes: number; go: () => void }[] = [];
  let closed = false;
  const fits = (bytes: number) => closed || used === 0 || used + bytes <= most;
  const letIn = () => {
    for (let first = waiting[0]; first !== undefined && fits(first.bytes); first = waiting[0]) {
      waiting.shift();
      used += first.bytes;
      first.go();
    }
  };
  return {
    async take(bytes) {
      if (waiting.length > 0 || !fits(bytes)) await new Promise<void>((go) => waiting.push({ bytes, go }));
      else used += bytes;
    },
    give(bytes) {
      used -= bytes;
      letIn();
    },
    close() {
      closed = true;
      letIn();
    },
  };
}

type Post = (message: ToEngine, transfer?: ArrayBuffer[]) => void;

/**
 * Reads every VM of each need, many at once; a failure is told, and the others go on. SQLite goes from VM to VM, through all
 * that it needs of each. What is no ConnectError is a defect, and is thrown.
 */
async function readAll(
  needs: readonly NumberedNeed[],
  { read }: SqlOptions,
  signal: AbortSignal,
  room: Room,
  post: Post,
): Promise<void> {
  const tasks = needs.flatMap((need) => need.vms.map((vm) => ({ need, vm }))).sort((a, b) => a.vm - b.vm);
  let next = 0;
  const work = async () => {
    for (let task = tasks[next++]; task !== undefined && !signal.aborted; task = tasks[next++]) {
      const { need, vm } = task;
      const { table, columns, where, limit } = need.need;
      try {
        for await (const bytes of read({ vm, table, columns, where, limit, signal })) {
          await room.take(bytes.length);
          if (signal.aborted) return;
          // Of a Buffer, slice() would be no copy.
          const own = new Uint8Array(bytes);
          post({ kind: "batch", read: need.read, vm, bytes: own }, [own.buffer]);
        }
        post({ kind: "answered", read: need.read, vm });
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof ConnectError)) throw error;
        post({ kind: "failed", read: need.read, vm, failure: { code: error.code, message: error.rawMessage } });
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, tasks.length) }, work));
}
