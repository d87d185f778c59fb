import { Worker } from "node:worker_threads";
import { openAuditStore } from "../state/database.ts";
import type { AuditRow } from "../state/schema.ts";
import type { AuditEntry, AuditHead } from "./record.ts";
import { type Verification, verify } from "./verify.ts";
import type { FromWriter, ToWriter } from "./writer.ts";

export interface AuditLog {
  /** Resolves when the record is on the disk. Rejects when it can't be written: then nothing may be answered. */
  append(entry: AuditEntry): Promise<void>;
  head(): AuditHead;
  /** Why the newest records could not be written; undefined while they can. */
  readonly problem: string | undefined;
  list(query: { after: number; limit: number; newest: boolean }): Promise<AuditRow[]>;
  verify(anchor?: AuditHead): Promise<Verification>;
  /** After what has been appended is on the disk. */
  close(): Promise<void>;
}

interface Waiting {
  readonly entry: AuditEntry;
  resolve(): void;
  reject(error: Error): void;
}

const ended = "the audit writer has ended: restart the service";

/**
 * Opens the trail in `directory`. Records that arrive while a commit is under way share the next one, so that a
 * hundred calls at once cost one wait for the disk rather than a hundred.
 */
export async function openAuditLog(directory: string): Promise<AuditLog> {
  const store = await openAuditStore(directory);
  const worker = new Worker(new URL("./writer.ts", import.meta.url), { workerData: { directory } });
  const exited = new Promise<void>((resolve) => worker.once("exit", () => resolve()));
  let head: AuditHead;
  try {
    head = await new Promise((resolve, reject) => {
      worker.once("message", (message: FromWriter) =>
        message.kind === "committed" ? resolve(message) : reject(new Error(message.message)),
      );
      worker.once("error", reject);
      void exited.then(() => reject(new Error(ended)));
    });
  } catch (error) {
    await worker.terminate();
    await store.destroy();
    throw error;
  }
  let queue: Waiting[] = [];
  let underWay: Waiting[] = [];
  let broken: Error | undefined;
  let problem: string | undefined;
  let scheduled = false;
  let newest = Promise.resolve();

  function flush(): void {
    scheduled = false;
    if (underWay.length > 0 || queue.length === 0) return;
    underWay = queue;
    queue = [];
    worker.postMessage({ kind: "append", entries: underWay.map(({ entry }) => entry) } satisfies ToWriter);
  }

  function fail(error: Error): void {
    // What ended it is said before that it has ended.
    broken ??= error;
    problem = broken.message;
    for (const { reject } of [...underWay, ...queue]) reject(error);
    underWay = [];
    queue = [];
  }

  worker.removeAllListeners("error");
  worker.on("error", fail);
  void exited.then(() => fail(new Error(ended)));
  worker.on("message", (message: FromWriter) => {
    const batch = underWay;
    underWay = [];
    if (message.kind === "committed") {
      head = { sequence: message.sequence, hash: message.hash };
      problem = undefined;
      for (const { resolve } of batch) resolve();
    } else {
      problem = `the audit trail can't be written: ${message.message}`;
      for (const { reject } of batch) reject(new Error(problem));
    }
    flush();
  });

  return {
    append(entry) {
      newest = new Promise((resolve, reject) => {
        if (broken !== undefined) return reject(broken);
        queue.push({ entry, resolve, reject });
        if (scheduled) return;
        // What the same turn of the event loop appends goes together.
        scheduled = true;
        queueMicrotask(flush);
      });
      return newest;
    },
    head: () => head,
    get problem() {
      return problem;
    },
    list: ({ after, limit, newest }) =>
      store
        .selectFrom("audit")
        .selectAll()
        .where("sequence", ">", after)
        .orderBy("sequence", newest ? "desc" : "asc")
        .limit(limit)
        .execute(),
    verify: (anchor) => verify(store, anchor),
    async close() {
      // In order: when the newest is settled, all are.
      await newest.catch(() => {});
      worker.postMessage({ kind: "close" } satisfies ToWriter);
      await exited;
      await store.destroy();
    },
  };
}
