// What is passed on, indexed, merged or limited must not change an answer: the same statements over the same rows in ordinary
// tables of SQLite, which knows nothing of where rows come from, give the same rows.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { OK, openSqlite, ROW, type Sqlite, TYPE } from "./engine/sqlite.ts";
import { query, type TestAnswer, type TestCell, type TestRows, type TestSource } from "./testing/source.ts";

const tables: TestSource["tables"] = [
  {
    name: "p",
    columns: [
      { name: "pid", type: "integer" },
      { name: "name", type: "text" },
      { name: "size", type: "integer" },
    ],
    required: [],
  },
  {
    name: "f",
    columns: [
      { name: "pid", type: "integer" },
      { name: "path", type: "text" },
      { name: "name", type: "text" },
    ],
    required: [],
  },
];

const integers = fc.constantFrom<TestCell>(0n, 1n, 2n, -1n, 5n, 7n, 2n ** 53n, 2n ** 53n + 1n, -(2n ** 63n), null);
const texts = fc.constantFrom<TestCell>(
  "a",
  "A",
  "",
  "5",
  "05",
  "5.0",
  " 5",
  "-1",
  "1",
  "é",
  "/a",
  "web1",
  "9007199254740993",
  new Uint8Array([0xff]),
  null,
  "x'y",
);
const rowsOf = (columns: Record<string, fc.Arbitrary<TestCell>>, most: number) =>
  fc.array(fc.record(columns), { maxLength: most, size: "max" }) as fc.Arbitrary<TestRows>;
const vm = fc.record({
  p: rowsOf({ pid: integers, name: texts, size: integers }, 20),
  f: rowsOf({ pid: integers, path: texts, name: texts }, 20),
});
const source = fc.record({ web1: vm, "5": vm, "": vm }).map((vms): TestSource => ({ tables, vms }));

const literal = fc.constantFrom(
  "1",
  "5",
  "-1",
  "5.0",
  "1.5",
  "'5'",
  "'05'",
  "' 5'",
  "'5.0'",
  "'a'",
  "'A'",
  "''",
  "NULL",
  "x'ff'",
  "x'35'",
  "9007199254740993",
  "-9223372036854775808",
  "9007199254740992.0",
  "'é'",
  "2+3",
  "abs(-5)",
  "'web1'",
  "'x''y'",
  "cast('5' as integer)",
  "1e0",
);
const columnOf = (alias: string) =>
  fc
    .constantFrom("vm", ...(alias === "f" ? ["pid", "path", "name"] : ["pid", "name", "size"]))
    .map((name) => `${alias}.${name}`);

const wrap = (column: fc.Arbitrary<string>) =>
  fc
    .tuple(column, fc.constantFrom("%", "%", "%", "%", "+%", "% COLLATE NOCASE", "cast(% AS TEXT)"))
    .map(([name, form]) => form.replace("%", name));
const list = fc.array(literal, { minLength: 1, maxLength: 4 }).map((values) => `(${values.join(", ")})`);

function term(aliases: readonly string[]): fc.Arbitrary<string> {
  const column = fc.constantFrom(...aliases).chain((alias) => wrap(columnOf(alias)));
  const any = fc.constantFrom(...aliases).chain(columnOf);
  return fc.oneof(
    { weight: 5, arbitrary: fc.tuple(column, literal).map(([left, right]) => `${left} = ${right}`) },
    { weight: 3, arbitrary: fc.tuple(column, list).map(([left, right]) => `${left} IN ${right}`) },
    { weight: 3, arbitrary: fc.tuple(column, any).map(([left, right]) => `${left} = ${right}`) },
    fc.tuple(column, list).map(([left, right]) => `${left} NOT IN ${right}`),
    fc.tuple(column, literal).map(([left, right]) => `${right} = ${left}`),
    fc.tuple(column, fc.constantFrom("<", ">=", "<>", "IS", "IS NOT", "LIKE"), literal).map((words) => words.join(" ")),
    fc.tuple(column, any).map(([left, right]) => `${left} IN (SELECT ${right.replace(/^\w/, "z")} FROM ${right[0]} z)`),
    fc.tuple(any, any).map(([left, right]) => `${left} IN (1, ${right}, 'a')`),
    any.map((name) => `${name} IS NULL`),
    fc
      .tuple(any, any)
      .map(([left, right]) => `${left} = (SELECT min(${right.replace(/^\w/, "z")}) FROM ${right[0]} z)`),
  );
}

function condition(aliases: readonly string[]): fc.Arbitrary<string> {
  const { any } = fc.letrec<{ any: string }>((tie) => ({
    any: fc.oneof(
      { depthSize: "small", withCrossShrink: true },
      { weight: 4, arbitrary: term(aliases) },
      { weight: 2, arbitrary: fc.tuple(tie("any"), tie("any")).map(([a, b]) => `(${a} AND ${b})`) },
      { weight: 2, arbitrary: fc.tuple(tie("any"), tie("any")).map(([a, b]) => `(${a} OR ${b})`) },
      tie("any").map((a) => `NOT (${a})`),
    ),
  }));
  return any;
}

const where = (aliases: readonly string[]) =>
  fc.oneof(
    { weight: 1, arbitrary: fc.constant("") },
    { weight: 5, arbitrary: condition(aliases).map((text) => ` WHERE ${text}`) },
  );

const statement = fc.oneof(
  where(["p"]).map((text) => `SELECT * FROM p${text}`),
  where(["f"]).map((text) => `SELECT count(*), min(path) FROM f${text}`),
  fc
    .tuple(fc.constantFrom("JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"), condition(["p", "f"]), where(["p", "f"]))
    .map(([join, on, text]) => `SELECT p.*, f.* FROM p ${join} f ON ${on}${text}`),
  where(["p", "f"]).map((text) => `SELECT p.pid, f.path, f.vm FROM p, f${text}`),
  fc
    .tuple(where(["p"]), where(["f"]), fc.constantFrom("UNION", "UNION ALL", "EXCEPT", "INTERSECT"))
    .map(([a, b, set]) => `SELECT vm, pid, name FROM p${a} ${set} SELECT vm, pid, path FROM f${b}`),
  fc
    .tuple(where(["p"]), condition(["q", "p"].map((alias) => (alias === "q" ? "p" : alias))))
    .map(([text, on]) => `SELECT p.name, q.size FROM p JOIN p q ON q.pid = p.pid AND ${on}${text}`),
  fc
    .tuple(where(["p"]), condition(["p", "f"]))
    .map(([text, inner]) => `SELECT p.pid, (SELECT count(*) FROM f WHERE ${inner}) FROM p${text}`),
  fc
    .tuple(where(["p"]), where(["f"]))
    .map(
      ([a, b]) =>
        `WITH u(x) AS (SELECT pid FROM p${a} UNION ALL SELECT path FROM f${b}) SELECT x, f.name FROM u JOIN f ON f.path = x`,
    ),
  where(["p"]).map((text) => `SELECT DISTINCT name FROM p${text}`),
  fc
    .tuple(where(["p"]), fc.shuffledSubarray(["vm", "pid", "name", "size"], { minLength: 1 }))
    .map(([text, by]) => `SELECT ${by}, count(*), sum(size > 1), min(name) FROM p${text} GROUP BY ${by}`),
  fc
    .tuple(condition(["p", "f"]), fc.shuffledSubarray(["p.vm", "p.pid", "p.name"], { minLength: 1 }))
    .map(([on, by]) => `SELECT ${by}, count(*), max(f.path) FROM p JOIN f ON f.pid = p.pid AND ${on} GROUP BY ${by}`),
  fc
    .tuple(where(["p"]), fc.constantFrom("vm, name", "name, size, pid", "pid"), fc.constantFrom("", " ORDER BY 1 DESC"))
    .map(([text, by, order]) => `SELECT DISTINCT ${by} FROM p${text}${order}`),
  condition(["p"]).map(
    (text) =>
      `SELECT q.name, (SELECT count(*) FROM (SELECT size FROM p WHERE p.pid = q.pid AND ${text} GROUP BY size, name)) FROM p q`,
  ),
);

test("answers are those of ordinary tables", async () => {
  await fc.assert(
    fc.asyncProperty(source, statement, async (from, text) => {
      const expected = await ordinary(from, text);
      const answer = await answerOf(from, text);
      if (answer === undefined) return;
      assert.deepEqual(sorted(answer.rows), sorted(expected), text);
    }),
    { numRuns: Number(process.env.RUNS ?? 150) },
  );
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

/** Undefined when the statement is about VMs only that there are none of: a failure then, not an answer of nothing. */
async function answerOf(from: TestSource, text: string): Promise<TestAnswer | undefined> {
  try {
    return await query(from, text);
  } catch (error) {
    assert.match((error as Error).message, /there is no VM|none of \d VMs could be read/, text);
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
