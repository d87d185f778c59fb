// Random rows of two tables in some VMs, and random statements over them.
import fc from "fast-check";
import type { TestCell, TestRows, TestSource } from "./source.ts";

export const tables: TestSource["tables"] = [
  {
    name: "p",
    columns: [
      { name: "pid", type: "integer" },
      { name: "name", type: "text" },
      { name: "size", type: "integer" },
      { name: "load", type: "real" },
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
const reals = fc.constantFrom<TestCell>(
  0,
  -0,
  1,
  1.5,
  5,
  -1,
  0.1,
  2 ** 53,
  2 ** 53 + 2,
  -(2 ** 63),
  2 ** 63,
  1e300,
  null,
);
const vm = fc.record({
  p: rowsOf({ pid: integers, name: texts, size: integers, load: reals }, 20),
  f: rowsOf({ pid: integers, path: texts, name: texts }, 20),
});
/** The first ones only, or also those that SQLite may take for numbers. */
const vmNames = ["web1", "a", "A", "", "é", "5a", "Inf", "5", "05", "1e1", " 7", "7.0", "-1", "9007199254740993"];
export const source = fc.constantFrom(6, vmNames.length).chain((count) =>
  fc
    .shuffledSubarray(vmNames.slice(0, count), { minLength: 1, maxLength: 4 })
    .chain((names) => fc.record(Object.fromEntries(names.map((name) => [name, vm]))))
    .map((vms): TestSource => ({ tables, vms })),
);

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
  "7",
  "10",
  "'10.0'",
  "9e999",
  "9223372036854775808.0",
  "cast('9007199254740993' as numeric)",
  "cast(x'ff' as text)",
  "cast(x'f09f98' as text)",
);
const columnOf = (alias: string) =>
  fc
    .constantFrom(
      "vm",
      "vm",
      ...(alias === "f" ? ["pid", "pid", "path", "name"] : ["pid", "pid", "name", "size", "load"]),
    )
    .map((name) => `${alias}.${name}`);

/** Values of other types, and with other rules for how they are compared. */
const forms = [
  "+%",
  "-%",
  "% * 1.0",
  "% / 2.0",
  "% || ''",
  "' ' || %",
  "% || '.0'",
  "nullif(%, 5)",
  "coalesce(%, '05')",
  "% COLLATE NOCASE",
  "(SELECT %)",
  "(SELECT % UNION ALL SELECT '05')",
  "(SELECT '05' UNION ALL SELECT %)",
  "iif(% IS NULL, x'35', %)",
  ...["INTEGER", "REAL", "NUMERIC", "TEXT", "BLOB"].map((type) => `cast(% AS ${type})`),
];
const wrap = (column: fc.Arbitrary<string>) =>
  fc
    .tuple(
      column,
      fc.oneof({ weight: 2, arbitrary: fc.constant("%") }, { weight: 1, arbitrary: fc.constantFrom(...forms) }),
    )
    .map(([name, form]) => form.replaceAll("%", name));
const list = fc.array(literal, { minLength: 1, maxLength: 4 }).map((values) => `(${values.join(", ")})`);

function term(aliases: readonly string[]): fc.Arbitrary<string> {
  const column = fc.constantFrom(...aliases).chain((alias) => wrap(columnOf(alias)));
  const any = fc.constantFrom(...aliases).chain(columnOf);
  const integer = fc.constantFrom(...aliases).map((alias) => `${alias}.pid`);
  const pair = fc.tuple(any, any).map((words) => words.join(", "));
  return fc.oneof(
    { weight: 5, arbitrary: fc.tuple(column, literal).map(([left, right]) => `${left} = ${right}`) },
    { weight: 3, arbitrary: fc.tuple(column, list).map(([left, right]) => `${left} IN ${right}`) },
    { weight: 5, arbitrary: fc.tuple(any, column).map(([left, right]) => `${left} = ${right}`) },
    { weight: 2, arbitrary: fc.tuple(column, any).map(([left, right]) => `${left} = ${right}`) },
    fc.tuple(any, column).map(([left, right]) => `${left} IS ${right}`),
    fc.tuple(any, column).map(([left, right]) => `${left} IN (${right})`),
    fc.tuple(pair, pair).map(([left, right]) => `(${left}) = (${right})`),
    // Of a virtual table SQLite itself compares a text with integers of a list of pairs in another way than of a table.
    fc.tuple(any, integer).map(([left, right]) => `(${left}, ${right}) IN (SELECT z.vm, z.pid FROM f z)`),
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

export const where = (aliases: readonly string[]) =>
  fc.oneof(
    { weight: 1, arbitrary: fc.constant("") },
    { weight: 5, arbitrary: condition(aliases).map((text) => ` WHERE ${text}`) },
  );

export const statement = fc.oneof(
  where(["p"]).map((text) => `SELECT * FROM p${text}`),
  where(["f"]).map((text) => `SELECT count(*), min(path) FROM f${text}`),
  fc
    .tuple(fc.constantFrom("JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"), condition(["p", "f"]), where(["p", "f"]))
    .map(([join, on, text]) => `SELECT p.*, f.* FROM p ${join} f ON ${on}${text}`),
  where(["p", "f"]).map((text) => `SELECT p.pid, f.path, f.vm FROM p, f${text}`),
  fc
    .tuple(
      fc.constantFrom("JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"),
      fc.constantFrom("vm", "pid", "vm, pid", "vm, pid, name"),
      where(["p", "f"]),
    )
    .map(([join, using, text]) => `SELECT p.*, f.* FROM p ${join} f USING (${using})${text}`),
  fc
    .tuple(fc.constantFrom("", "NOT "), condition(["p", "f"]), where(["p"]))
    .map(
      ([not, inner, text]) =>
        `SELECT * FROM (SELECT * FROM p${text}) p WHERE ${not}EXISTS (SELECT 1 FROM f WHERE ${inner})`,
    ),
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
    .tuple(
      where(["p"]),
      where(["f"]),
      fc.shuffledSubarray(["SELECT % FROM p#", "SELECT @ FROM f$", "SELECT '05'", "SELECT 5.0", "VALUES (' 7'), (7)"], {
        minLength: 2,
      }),
      fc.constantFrom("UNION ALL", "UNION", "EXCEPT"),
      fc.constantFrom("pid", "vm", "load", "name"),
      fc.constantFrom("path", "vm", "pid"),
      fc.constantFrom("", "MATERIALIZED ", "NOT MATERIALIZED "),
      fc.constantFrom("JOIN", "LEFT JOIN", "RIGHT JOIN"),
      fc.shuffledSubarray(["f.path = x", "f.vm = x", "f.pid = x", "x = f.pid"], { minLength: 1, maxLength: 2 }),
    )
    .map(
      ([a, b, parts, set, first, second, kind, join, on]) =>
        `WITH u(x) AS ${kind}(${parts
          .map((part) => part.replace("%", first).replace("@", second).replace("#", a).replace("$", b))
          .join(` ${set} `)}) SELECT x, f.vm, f.name FROM u ${join} f ON ${on.join(" AND ")}`,
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
