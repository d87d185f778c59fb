// A thread of its own: a commit waits for the disk (a millisecond or more), and calls must go on meanwhile. It is
// the only writer of the trail, so it alone knows the head of the chain.
import { parentPort, workerData } from "node:worker_threads";
import { openAuditStore } from "../state/database.ts";
import type { AuditRow } from "../state/schema.ts";
import { type AuditEntry, chainHash, genesis } from "./record.ts";

export type ToWriter = { readonly kind: "append"; readonly entries: AuditEntry[] } | { readonly kind: "close" };
export type FromWriter =
  | { readonly kind: "committed"; readonly sequence: number; readonly hash: string }
  | { readonly kind: "failed"; readonly message: string };

// A statement may not have more parameters than the database takes (32766 for SQLite).
const rowsPerStatement = 500;

if (parentPort === null) throw new Error("the audit writer runs as a worker thread only");
const port = parentPort;
const store = await openAuditStore((workerData as { directory: string }).directory);
const last = await store
  .selectFrom("audit")
  .select(["sequence", "hash"])
  .orderBy("sequence", "desc")
  .executeTakeFirst();
let sequence = last?.sequence ?? 0;
let hash = last?.hash ?? genesis;

async function append(entries: AuditEntry[]): Promise<void> {
  let nextSequence = sequence;
  let nextHash = hash;
  const rows = entries.map((entry): AuditRow => {
    const record = { ...entry, sequence: ++nextSequence };
    nextHash = chainHash(nextHash, record);
    return { ...record, hash: nextHash };
  });
  // One statement is a transaction of its own.
  if (rows.length <= rowsPerStatement) await store.insertInto("audit").values(rows).execute();
  else {
    await store.transaction().execute(async (transaction) => {
      for (let at = 0; at < rows.length; at += rowsPerStatement) {
        await transaction
          .insertInto("audit")
          .values(rows.slice(at, at + rowsPerStatement))
          .execute();
      }
    });
  }
  sequence = nextSequence;
  hash = nextHash;
}

function answer(message: FromWriter): void {
  port.postMessage(message);
}

// One batch is under way at a time: the log sends the next when this one has been answered.
port.on("message", (message: ToWriter) => {
  if (message.kind === "close") {
    void store.destroy().then(() => port.close());
    return;
  }
  append(message.entries).then(
    () => answer({ kind: "committed", sequence, hash }),
    (error: unknown) => answer({ kind: "failed", message: (error as Error).message }),
  );
});
answer({ kind: "committed", sequence, hash });
