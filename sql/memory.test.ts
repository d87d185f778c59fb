// What a statement may take, whatever the guests answer: all that is read for it counts, and no more is taken from where it
// comes than there is room for.
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { ReadTableResponseSchema } from "../proto/gen/cloudvmi/v1/guest_pb.ts";
import type { SqlOptions } from "./index.ts";
import { query, type TestSource } from "./testing/source.ts";

const names = ["a", "b", "c", "d", "e", "f", "g", "h"];
const source: TestSource = {
  tables: [{ name: "t", columns: names.map((name) => ({ name, type: "integer" })), required: [] }],
  vms: { web1: { t: [] } },
};

/** Rows of small integers: a byte each on the way. */
const batch = (rows: number, columns: number, notes?: string[]) =>
  toBinary(
    ReadTableResponseSchema,
    create(ReadTableResponseSchema, {
      rows,
      columns: Array.from({ length: columns }, () => ({
        integers: Array.from({ length: rows }, (_, i) => BigInt(i % 60)),
      })),
      ...(notes ? { summary: { incomplete: true, retried: 2, notes } } : {}),
    }),
  );

async function exhausted(text: string, options: Partial<SqlOptions>): Promise<string> {
  const outcome = await query(source, text, options).catch((error: unknown) => error);
  assert.ok(outcome instanceof ConnectError, `${text} must fail`);
  assert.equal(outcome.code, Code.ResourceExhausted, outcome.rawMessage);
  return outcome.rawMessage;
}

suite("memory", () => {
  test("a guest that never stops ends the statement at its limit, and is not read far beyond it", async () => {
    const bytes = batch(30_000, names.length);
    let taken = 0;
    let ended = false;
    const read: SqlOptions["read"] = async function* () {
      try {
        for (;;) {
          taken += bytes.length;
          yield bytes;
        }
      } finally {
        ended = true;
      }
    };
    const memoryBytes = 32 << 20;
    const message = await exhausted(`SELECT sum(${names.join("+")}) FROM t`, { read, limits: { memoryBytes } });
    assert.equal(
      message,
      "the statement needs more memory than it may have: select fewer columns, or narrow it with WHERE",
    );
    // Each byte takes nine there.
    assert.ok(taken * 9 < memoryBytes + 9 * (3 << 20), `${taken} bytes were taken`);
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.ok(ended, "the reading ends with the statement");
    assert.deepEqual((await query(source, "SELECT 1")).rows, [[1n]]);
  });

  test("indexes count, and rows that are grouped", async () => {
    const bytes = batch(500_000, 2);
    const read: SqlOptions["read"] = async function* () {
      yield bytes;
    };
    const limits = { memoryBytes: 12 << 20 };
    const { rows } = await query(source, "SELECT count(*), sum(a + b) >= 0 FROM t", { read, limits });
    assert.deepEqual(rows, [[500_000n, 1n]]);
    await exhausted("SELECT 1 FROM t x JOIN t y ON y.a = x.b LIMIT 1", { read, limits });
    await exhausted("SELECT a, sum(b) FROM t GROUP BY a", { read, limits });
  });

  test("a text counts for each column that it is in", async () => {
    const text = "WITH t AS MATERIALIZED (SELECT hex(zeroblob(4000000)) AS h) SELECT h, h AS i, h AS j FROM t";
    assert.match(await exhausted(text, {}), /^a text, a row or the statement itself is too long/);
  });

  test("values of a list that only the statement knows are bounded", async () => {
    const contents: TestSource = { ...source, tables: [{ ...source.tables[0]!, required: ["a"] }] };
    const text =
      "SELECT * FROM t WHERE a IN (WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 20000) SELECT x FROM c)";
    const outcome = await query(contents, text).catch((error: unknown) => error);
    assert.ok(outcome instanceof ConnectError);
    assert.match(outcome.message, /table t would be read for more than 10000 values at once: give fewer/);
  });
});

test("a VM of which something was nonsense gives no rows, and what is said of it is bounded", async () => {
  const read: SqlOptions["read"] = async function* () {
    yield batch(10, 1);
    yield new Uint8Array([0xff, 0xff]);
    yield batch(10, 1);
  };
  const both = { ...source, vms: { web1: { t: [] }, db1: { t: [] } } };
  const { rows, summary } = await query(both, "SELECT vm, count(*) FROM t GROUP BY vm", {
    async *read(wanted) {
      if (wanted.vm === 0) yield* read(wanted);
      else yield batch(3, 1, ["x".repeat(5000), "y", "y", ...Array.from({ length: 2000 }, (_, i) => `note ${i}`)]);
    },
  });
  assert.deepEqual(rows, [["db1", 3n]]);
  assert.deepEqual(
    summary.failures.map(({ vm, code }) => [vm, code]),
    [["web1", Code.DataLoss]],
  );
  assert.equal(summary.notes.length, 1000);
  assert.equal(summary.notes[0]!.note.length, 1000);
  assert.equal(summary.unlisted, 1002);
  assert.equal(summary.retried, 2n);
  assert.deepEqual(
    summary.reads.map(({ table, retried }) => [table, retried]),
    [["t", 2n]],
  );
});
