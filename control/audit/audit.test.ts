import assert from "node:assert/strict";
import { cpSync, existsSync, mkdtempSync, readdirSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import type { Worker } from "node:worker_threads";
import { sql } from "kysely";
import { openAuditStore } from "../state/database.ts";
import type { AuditStore } from "../state/schema.ts";
import { openAuditLog } from "./log.ts";
import { type AuditEntry, chainHash, genesis } from "./record.ts";
import { verify } from "./verify.ts";

function entry(detail: string): AuditEntry {
  return {
    time_ms: 1_700_000_000_000,
    user_name: "ann",
    token_id: "00112233aabbccdd",
    action: "table",
    vm_uuid: "00000000-0000-4000-8000-000000000001",
    vm_incarnation: "7",
    project: "shop",
    decision: "allow",
    reason: "viewer",
    detail,
  };
}

const records = 1100;

/** A trail of several pages, made once: each test tampers with a copy. */
const made = (async () => {
  const directory = mkdtempSync(path.join(tmpdir(), "cloudvmi-audit-"));
  const log = await openAuditLog(directory);
  await Promise.all(Array.from({ length: records }, (_, index) => log.append(entry(`${index + 1}`))));
  const head = log.head();
  await log.close();
  return { directory, head };
})();
after(async () => rmSync((await made).directory, { recursive: true }));

async function verifyAfter(tamper: (store: AuditStore) => Promise<unknown>, anchored = false) {
  const { directory, head } = await made;
  const copy = mkdtempSync(path.join(tmpdir(), "cloudvmi-audit-"));
  try {
    cpSync(directory, copy, { recursive: true });
    const store = await openAuditStore(copy);
    await tamper(store);
    const result = await verify(store, anchored ? head : undefined);
    await store.destroy();
    return { ...result, anchor: head };
  } finally {
    rmSync(copy, { recursive: true });
  }
}

test("an untouched trail is intact, and goes on after a restart", async () => {
  const result = await verifyAfter(async () => {}, true);
  assert.equal(result.intact, true);
  assert.equal(result.records, records);
  assert.deepEqual(result.head, result.anchor);

  const directory = mkdtempSync(path.join(tmpdir(), "cloudvmi-audit-"));
  try {
    for (const run of ["first", "second"]) {
      const log = await openAuditLog(directory);
      await log.append(entry(run));
      await log.close();
    }
    const log = await openAuditLog(directory);
    assert.deepEqual(
      (await log.list({ after: 0, limit: 10, newest: true })).map(({ sequence, detail }) => [sequence, detail]),
      [
        [2, "second"],
        [1, "first"],
      ],
    );
    assert.equal((await log.verify()).intact, true);
    await log.close();
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("what else there is to do goes on while a trail is verified", async () => {
  let turns = 0;
  let running = true;
  const result = await verifyAfter(async () => {
    const count = () => {
      turns++;
      if (running) setImmediate(count);
    };
    setImmediate(count);
  });
  running = false;
  assert.equal(result.intact, true);
  assert.ok(turns >= 5, `${turns} turns of the event loop`);
});

test("a removed record shows", async () => {
  const result = await verifyAfter((store) => store.deleteFrom("audit").where("sequence", "=", 700).execute());
  assert.equal(result.intact, false);
  assert.equal(result.brokenAt, 700);
  assert.match(result.problem, /700 is missing/);
});

test("a removed first record shows", async () => {
  const result = await verifyAfter((store) => store.deleteFrom("audit").where("sequence", "=", 1).execute());
  assert.equal(result.brokenAt, 1);
});

for (const [field, value] of Object.entries({
  detail: "",
  decision: "deny",
  user_name: "eve",
  time_ms: 5,
  hash: genesis,
})) {
  test(`an altered ${field} shows`, async () => {
    const result = await verifyAfter((store) =>
      store
        .updateTable("audit")
        .set({ [field]: value })
        .where("sequence", "=", 1050)
        .execute(),
    );
    assert.equal(result.intact, false);
    assert.equal(result.brokenAt, 1050);
  });
}

test("swapped records show", async () => {
  const result = await verifyAfter(async (store) => {
    const set = (from: number, to: number) =>
      store.updateTable("audit").set({ sequence: to }).where("sequence", "=", from).execute();
    await set(40, 9999);
    await set(41, 40);
    await set(9999, 41);
  });
  assert.equal(result.brokenAt, 40);
});

test("an altered record with its hash recomputed breaks the next one", async () => {
  const result = await verifyAfter(async (store) => {
    const rows = await store
      .selectFrom("audit")
      .selectAll()
      .where("sequence", "in", [9, 10])
      .orderBy("sequence")
      .execute();
    const { hash: _, ...record } = { ...rows[1]!, detail: "nothing of note" };
    await store
      .updateTable("audit")
      .set({ detail: record.detail, hash: chainHash(rows[0]!.hash, record) })
      .where("sequence", "=", 10)
      .execute();
  });
  assert.equal(result.brokenAt, 11);
});

test("a cut tail shows against an anchor, and only there", async () => {
  const cut = (store: AuditStore) => store.deleteFrom("audit").where("sequence", ">", 1000).execute();
  const anchored = await verifyAfter(cut, true);
  assert.equal(anchored.intact, false);
  assert.equal(anchored.brokenAt, 1001);
  assert.match(anchored.problem, /cut off/);
  assert.equal((await verifyAfter(cut)).intact, true);
});

test("a trail written anew shows against an anchor", async () => {
  const result = await verifyAfter(async (store) => {
    const rows = await store.selectFrom("audit").selectAll().orderBy("sequence").execute();
    let previous = genesis;
    for (const { hash: _, ...record } of rows) {
      const forged = { ...record, detail: "forged" };
      previous = chainHash(previous, forged);
      await store
        .updateTable("audit")
        .set({ detail: "forged", hash: previous })
        .where("sequence", "=", record.sequence)
        .execute();
    }
  }, true);
  assert.equal(result.brokenAt, records);
  assert.match(result.problem, /anchor/);
});

test("fields can't be shifted into one another unseen", () => {
  const record = { ...entry("b"), sequence: 1, reason: "a" };
  const shifted = { ...record, reason: "ab", detail: "" };
  assert.notEqual(chainHash(genesis, record), chainHash(genesis, shifted));
});

/** A trail in a directory of its own, and the threads that write trails meanwhile. */
async function withWriters(run: (directory: string, writers: Worker[]) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(path.join(tmpdir(), "cloudvmi-audit-"));
  const writers: Worker[] = [];
  const onWorker = (worker: Worker) => void writers.push(worker);
  process.on("worker", onWorker);
  try {
    await run(directory, writers);
  } finally {
    process.off("worker", onWorker);
    rmSync(directory, { recursive: true });
  }
}

test("a writer that has ended refuses every record, and closing does not wait for it", async () => {
  await withWriters(async (directory, writers) => {
    const log = await openAuditLog(directory);
    await log.append(entry("written"));
    assert.equal(log.problem, undefined);
    await writers[0]?.terminate();
    await assert.rejects(log.append(entry("lost")), /the audit writer has ended/);
    assert.match(log.problem ?? "", /the audit writer has ended/);
    await log.close();
  });
});

test("a trail that can't be written says so until it can be again", async () => {
  await withWriters(async (directory) => {
    const log = await openAuditLog(directory);
    const store = await openAuditStore(directory);
    const trigger = `CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(FAIL, 'disk full'); END`;
    await sql.raw(trigger).execute(store);
    await assert.rejects(log.append(entry("lost")), /can't be written: disk full/);
    assert.match(log.problem ?? "", /disk full/);
    await sql.raw("DROP TRIGGER full").execute(store);
    await log.append(entry("written"));
    assert.equal(log.problem, undefined);
    await store.destroy();
    await log.close();
  });
});

test("a writer that does not start fails the opening, and leaves nothing open", async () => {
  await withWriters(async (directory) => {
    const end = (worker: Worker) => void worker.terminate();
    process.on("worker", end);
    try {
      await assert.rejects(openAuditLog(directory), /the audit writer has ended/);
    } finally {
      process.off("worker", end);
    }
    const open = readdirSync("/proc/self/fd").map((fd) => {
      const link = path.join("/proc/self/fd", fd);
      return existsSync(link) ? readlinkSync(link) : "";
    });
    assert.deepEqual(
      open.filter((file) => file.startsWith(directory)),
      [],
    );
  });
});
