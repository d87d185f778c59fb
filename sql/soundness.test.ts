// What is passed on, indexed, merged or limited must not change an answer: the same statements over the same rows in ordinary
// tables of SQLite, which knows nothing of where rows come from, give the same rows.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import fc from "fast-check";
import { OK, openSqlite, ROW, type Sqlite, TYPE } from "./engine/sqlite.ts";
import type { SqlOptions } from "./index.ts";
import { source, statement, tables, where } from "./testing/random.ts";
import { query, readTable, type TestAnswer, type TestCell, type TestSource } from "./testing/source.ts";

/** How VMs answer: turns of the event loop before each batch, and tables of VMs that fail half way. */
const manner = fc.record({
  turns: fc.array(fc.nat(3), { minLength: 1, maxLength: 12 }),
  failing: fc.oneof(
    { weight: 3, arbitrary: fc.constant<string[]>([]) },
    fc.array(
      fc.tuple(fc.nat(3), fc.constantFrom("p", "f")).map(([at, table]) => `${at} ${table}`),
      { maxLength: 4 },
    ),
  ),
});

test("answers are those of ordinary tables", async () => {
  await fc.assert(
    fc.asyncProperty(source, statement, manner, async (from, text, { turns, failing }) => {
      const vms = Object.keys(from.vms);
      const fails = (vm: number, table: string) => failing.includes(`${vm} ${table}`);
      const read: SqlOptions["read"] = async function* (wanted) {
        for (const [at, bytes] of [...readTable(from, vms[wanted.vm]!, wanted)].entries()) {
          for (let turn = turns[(3 * wanted.vm + at) % turns.length]!; turn > 0; turn--) await setImmediate();
          if (at > 0 && fails(wanted.vm, wanted.table)) throw new ConnectError("the host is down", Code.Unavailable);
          yield bytes;
        }
      };
      const left = vms.map((vm, number) => {
        const kept = Object.entries(from.vms[vm]!).map(([table, rows]) => [table, fails(number, table) ? [] : rows]);
        return [vm, Object.fromEntries(kept)];
      });
      const expected = await ordinary({ tables, vms: Object.fromEntries(left) }, text);
      const answer = await answerOf(from, text, { read });
      if (answer === undefined) return;
      assert.deepEqual(sorted(answer.rows), sorted(expected), text);
    }),
    { numRuns: Number(process.env.RUNS ?? 150) },
  );
});

test("names of VMs are compared as SQLite does", async () => {
  const each = { p: [{ pid: 5n, name: "5", size: 1n, load: 5 }], f: [{ pid: 5n, path: "05", name: "a" }] };
  const from = (...names: string[]): TestSource => ({
    tables,
    vms: Object.fromEntries(names.map((name) => [name, each])),
  });
  const numbers = from("5", "05", "5.0", "Inf", "a");
  const mixed =
    "WITH u(x) AS MATERIALIZED (SELECT pid FROM p UNION ALL SELECT '5.00') SELECT f.vm, x FROM u JOIN f ON ";
  for (const [vms, text] of [
    [numbers, "SELECT vm FROM p WHERE vm = 5"],
    [numbers, "SELECT vm FROM p WHERE vm = 5.0"],
    [numbers, "SELECT vm FROM p WHERE vm = +'5'"],
    [numbers, "SELECT vm FROM p WHERE vm = 9e999"],
    [numbers, "SELECT f.vm FROM p JOIN f ON f.vm = p.pid"],
    [numbers, "SELECT f.vm FROM p JOIN f ON f.vm = p.load * 1.0"],
    [numbers, "SELECT f.vm FROM p JOIN f ON f.vm = cast(p.pid AS NUMERIC)"],
    [numbers, `${mixed}f.vm = x`],
    [numbers, `${mixed}f.vm = x AND f.pid = x`],
    [numbers, "SELECT f.vm FROM f WHERE f.vm = (SELECT '5.00' UNION ALL SELECT pid FROM p)"],
    [numbers, "SELECT f.vm FROM f WHERE f.vm = (SELECT '05' UNION ALL SELECT pid FROM p)"],
    [numbers, "SELECT f.vm FROM f WHERE f.vm IN (SELECT '05' UNION ALL SELECT pid FROM p)"],
    [from("Inf", "a"), "SELECT f.vm FROM p JOIN f ON f.vm = p.load * 9e999"],
    [from("\ufffd", "a"), "SELECT f.vm FROM p JOIN f ON f.vm = cast(iif(p.pid, x'f09f98', p.vm) AS TEXT)"],
    [from("\ufffd", "a"), "SELECT f.vm FROM p JOIN f ON f.vm = substr(p.vm, 1)"],
    [
      from("a", "b"),
      `SELECT f.vm FROM p JOIN f ON ${Array.from({ length: 20 }, (_, i) => `f.vm = p.vm AND f.pid = p.pid + ${i % 19} / 18`).join(" AND ")}`,
    ],
  ] as const) {
    assert.deepEqual(sorted((await query(vms, text)).rows), sorted(await ordinary(vms, text)), text);
  }
});

test("a limit gives as many rows, of those there are", async () => {
  const limited = fc.tuple(
    where(["p"]),
    fc.constantFrom("", " ORDER BY size, pid", " GROUP BY name"),
    fc.constantFrom("LIMIT 3", "LIMIT 2 OFFSET 3", "LIMIT 0", "LIMIT -1", "LIMIT 1+1 OFFSET -2", "LIMIT -1 OFFSET 4"),
  );
  await fc.assert(
    fc.asyncProperty(source, limited, fc.boolean(), async (from, [text, order, limit], distinct) => {
      const select = `SELECT ${distinct ? "DISTINCT " : ""}${order === " GROUP BY name" ? "count(*), name" : "*"} FROM p${text}${order}`;
      const all = sorted(await ordinary(from, select));
      const expected = await ordinary(from, `${select} ${limit}`);
      const answer = await answerOf(from, `${select} ${limit}`);
      if (answer === undefined) return;
      assert.equal(answer.rows.length, expected.length, `${select} ${limit}`);
      for (const row of sorted(answer.rows)) assert.ok(all.includes(row));
    }),
    { numRuns: Number(process.env.RUNS ?? 100) },
  );
});

test("what can be passed on is passed on, and read once", async () => {
  const rows = (count: number) =>
    Array.from({ length: count }, (_, i) => ({ pid: BigInt(i), name: `n${i}`, size: 1n, path: `/${i}` }));
  const each = { p: rows(20), f: rows(20) };
  const from: TestSource = { tables, vms: { web1: each, db1: each, db2: each } };
  const reads = async (text: string) =>
    (await query(from, text)).reads.map(({ vm, table, columns, where: constraints, limit }) =>
      [
        Object.keys(from.vms)[vm],
        table,
        columns.join(),
        constraints.map(({ column, values }) => `${column}=${values.join("|")}`).join(),
        limit,
      ].join(" "),
    );
  assert.deepEqual(await reads("SELECT name FROM p WHERE pid = 3 AND vm = 'web1'"), ["web1 p pid,name pid=3 0"]);
  assert.deepEqual(await reads("SELECT size FROM p WHERE vm IN ('web1', 'db2') AND pid IN (1, 2)"), [
    "web1 p pid,size pid=1|2 0",
    "db2 p pid,size pid=1|2 0",
  ]);
  assert.deepEqual(await reads("SELECT size FROM p WHERE vm = 'web1' AND (pid = 1 OR pid = 2)"), [
    "web1 p pid,size pid=1|2 0",
  ]);
  assert.deepEqual(
    await reads("SELECT a.pid FROM p a JOIN p b ON a.pid = b.size WHERE a.vm = 'db1' AND b.vm = 'db1'"),
    ["db1 p pid,size  0"],
  );
  assert.deepEqual(await reads("SELECT count(*) FROM p WHERE vm = 'db1'"), ["db1 p pid  0"]);
  assert.deepEqual(await reads("SELECT vm, pid FROM p WHERE vm = 'db1' LIMIT 2 OFFSET 1"), ["db1 p pid  3"]);
  assert.deepEqual(await reads("SELECT pid FROM p WHERE pid = NULL"), []);
});

/** Undefined when the statement is about VMs only that there are none of, or that fail: a failure then, not an answer of nothing. */
async function answerOf(
  from: TestSource,
  text: string,
  options: Partial<SqlOptions> = {},
): Promise<TestAnswer | undefined> {
  try {
    return await query(from, text, options);
  } catch (error) {
    assert.match((error as Error).message, /there is no VM|none of \d VMs could be read|the host is down/, text);
    return undefined;
  }
}

/** The same rows in ordinary tables. */
async function ordinary(from: TestSource, text: string): Promise<unknown[][]> {
  const sqlite = await openSqlite();
  for (const { name, columns } of from.tables) {
    const cells = columns.map((column) => `${column.name} ${column.type.toUpperCase()}`);
    run(sqlite, `CREATE TABLE ${name} (vm TEXT, ${cells.join(", ")})`);
    for (const [label, vmTables] of Object.entries(from.vms)) {
      const values = vmTables[name]!.map(
        (row) => `(${[label, ...columns.map((column) => row[column.name]!)].map(sql).join(", ")})`,
      );
      if (values.length > 0) run(sqlite, `INSERT INTO ${name} VALUES ${values.join(", ")}`);
    }
  }
  return run(sqlite, text);
}

function sql(cell: TestCell): string {
  if (cell === null) return "NULL";
  if (cell instanceof Uint8Array) return `x'${Buffer.from(cell).toString("hex")}'`;
  if (typeof cell === "number") return Object.is(cell, -0) ? "-0.0" : cell.toExponential();
  return typeof cell === "bigint"
    ? cell === -(2n ** 63n)
      ? "-9223372036854775808"
      : String(cell)
    : `'${cell.replaceAll("'", "''")}'`;
}

function run({ exports, wasm, db, place, peek, text, errorMessage }: Sqlite, statementText: string): unknown[][] {
  assert.equal(
    exports.sqlite3_prepare_v3(db, text(statementText), -1, 0, place, 0),
    OK,
    `${errorMessage()}: ${statementText}`,
  );
  const prepared = peek(place);
  const rows: unknown[][] = [];
  while (exports.sqlite3_step(prepared) === ROW) {
    rows.push(
      Array.from({ length: exports.sqlite3_column_count(prepared) }, (_, column) => {
        const type = exports.sqlite3_column_type(prepared, column);
        if (type === TYPE.null) return null;
        if (type === TYPE.integer) return exports.sqlite3_column_int64(prepared, column);
        if (type === TYPE.real) return exports.sqlite3_column_double(prepared, column);
        const at =
          type === TYPE.text
            ? exports.sqlite3_column_text(prepared, column)
            : exports.sqlite3_column_blob(prepared, column);
        const bytes = wasm.heap8u().slice(at, at + exports.sqlite3_column_bytes(prepared, column));
        return type === TYPE.text ? Buffer.from(bytes).toString() : bytes;
      }),
    );
  }
  exports.sqlite3_finalize(prepared);
  return rows;
}

const sorted = (rows: readonly (readonly unknown[])[]) =>
  rows
    .map((row) =>
      row
        .map((cell) =>
          cell instanceof Uint8Array
            ? `x'${Buffer.from(cell).toString("hex")}'`
            : typeof cell === "bigint"
              ? `${cell}n`
              : JSON.stringify(cell),
        )
        .join(" "),
    )
    .sort();
