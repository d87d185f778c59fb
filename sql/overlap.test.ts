// SQLite runs while VMs are still being read: what it waits for, what it must not tell too early, and what goes on meanwhile.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { runSql, type SqlOptions, type TableRead } from "./index.ts";
import { query, readTable, type TestSource } from "./testing/source.ts";

const rows = (count: number) => Array.from({ length: count }, (_, i) => ({ a: BigInt(i), b: `n${i % 3}` }));
const columns = [
  { name: "a", type: "integer" },
  { name: "b", type: "text" },
] as const;
const each = { t: rows(20), u: rows(20) };
const source: TestSource = {
  tables: [
    { name: "t", columns, required: [] },
    { name: "u", columns, required: ["a"] },
  ],
  vms: { web1: each, db1: each },
};
const vms = Object.keys(source.vms);
const tableOf = (wanted: TableRead) => readTable(source, vms[wanted.vm]!, wanted);
const soon = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Reads of the second VM wait for this. */
function held(then: (wanted: TableRead) => Iterable<Uint8Array> = tableOf) {
  const { promise, resolve } = Promise.withResolvers<void>();
  const read: SqlOptions["read"] = async function* (wanted) {
    if (wanted.vm === 1) await promise;
    yield* wanted.vm === 1 ? then(wanted) : tableOf(wanted);
  };
  return { read, letGo: resolve };
}

const down = (): Iterable<Uint8Array> => {
  throw new ConnectError("the host is down", Code.Unavailable);
};

test("rows of one VM come before the next has answered, joined, grouped and read for late", async () => {
  for (const text of [
    "SELECT vm, hex(zeroblob(40000)) FROM t",
    "SELECT t.vm, hex(zeroblob(40000)) FROM t JOIN t x ON x.vm = t.vm AND x.a = t.a",
    "SELECT b, vm, hex(zeroblob(40000)), count(*) FROM t GROUP BY b, vm",
    "SELECT DISTINCT vm, b, hex(zeroblob(40000)) FROM t",
    "SELECT t.vm, hex(zeroblob(40000)) FROM t JOIN u ON u.vm = t.vm AND u.a = t.a",
  ]) {
    const { read, letGo } = held();
    let messages = 0;
    for await (const _ of runSql(text, { tables: source.tables, vms, read, limits: { timeoutMs: 5000 } })) {
      if (messages++ === 0) letGo();
    }
    assert.ok(messages > 1, text);
  }
});

test("no row leaves before it is known that some VM can be read", async () => {
  const read: SqlOptions["read"] = async function* ({ vm }) {
    await soon(50 * vm);
    yield* down();
  };
  const text = "SELECT hex(zeroblob(100000)) UNION ALL SELECT vm FROM t";
  const run = async () => {
    for await (const _ of runSql(text, { tables: source.tables, vms, read })) assert.fail("a row");
  };
  await assert.rejects(run, /none of 2 VMs could be read; web1: the host is down/);
});

test("a VM that fails half way gives no row, and rows of the others stay", async () => {
  const { read, letGo } = held(function* (wanted) {
    const [first] = tableOf(wanted);
    yield first!;
    down();
  });
  setTimeout(letGo, 50);
  const { rows: found, summary } = await query(source, "SELECT vm, b, count(*) FROM t GROUP BY vm, b", { read });
  assert.deepEqual(
    found.map(([vm]) => vm),
    ["web1", "web1", "web1"],
  );
  assert.deepEqual(
    summary.failures.map(({ vm, table, code }) => [vm, table, code]),
    [["db1", "t", Code.Unavailable]],
  );
});

test("whatever is needed no more is waited for: its failures are told", async () => {
  const { read, letGo } = held(down);
  setTimeout(letGo, 100);
  const { rows: found, summary } = await query(source, "SELECT vm FROM t WHERE a >= 0 LIMIT 1", { read });
  assert.deepEqual(found, [["web1"]]);
  assert.deepEqual(
    summary.failures.map(({ vm }) => vm),
    ["db1"],
  );
  assert.deepEqual(
    summary.reads.map(({ vms: asked, rows: count }) => [asked, count]),
    [[2, 20n]],
  );
});

/** Computes for long, before it comes to the table. */
const long = (to: number) =>
  `WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT ${to}), n(c) AS MATERIALIZED (SELECT count(*) FROM c) ` +
  "SELECT c, count(a || b) FROM n CROSS JOIN t";

test("while SQLite computes, what VMs send is taken, and its memory is bounded", async () => {
  const many = { ...source, vms: { web1: { t: rows(4000) } } };
  const batch = [...readTable(many, "web1", { table: "t", columns: ["a", "b"], where: [], limit: 0 })][0]!;
  const batches = 300;
  let read = 0;
  let readMs = 0;
  const begin = performance.now();
  const options: Partial<SqlOptions> = {
    read: async function* ({ vm }) {
      if (vm === 0) return;
      await soon(20);
      for (; read < batches; read++) yield batch;
      readMs = performance.now() - begin;
    },
  };
  // More than is sent ahead.
  assert.ok(batches * batch.length > 3 << 20);
  assert.deepEqual((await query(source, long(1_500_000), options)).rows, [[1_500_000n, BigInt(batches * 2000)]]);
  assert.ok(readMs < 0.8 * (performance.now() - begin), `read after ${readMs} ms`);

  read = -1e9;
  const limits = { memoryBytes: 24 << 20, timeoutMs: 20_000 };
  const outcome = await query(source, long(-1), { ...options, limits }).catch((error: unknown) => error);
  assert.equal((outcome as ConnectError).code, Code.ResourceExhausted);
});
