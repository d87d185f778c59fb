import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { runSql, type SqlOptions, type TableRead } from "./index.ts";
import { query, readTable, type TestSource } from "./testing/source.ts";

const rows = (count: number) =>
  Array.from({ length: count }, (_, i) => ({ pid: BigInt(i), name: `n${i % 5}`, data: new Uint8Array([0xff, i]) }));
const columns = [
  { name: "pid", type: "integer" },
  { name: "name", type: "text" },
  { name: "data", type: "text" },
] as const;
const source: TestSource = {
  tables: [
    { name: "processes", columns, required: [] },
    { name: "contents", columns, required: ["pid", "name"] },
  ],
  vms: { web1: { processes: rows(40), contents: rows(40) }, db1: { processes: rows(40), contents: rows(40) } },
};

/** The failure of a statement. */
async function failure(text: string, options: Partial<SqlOptions> = {}): Promise<ConnectError> {
  const outcome = await query(source, text, options).catch((error: unknown) => error);
  assert.ok(outcome instanceof ConnectError, `${text} must fail`);
  return outcome;
}

suite("what is wrong with a statement is one line", { concurrency: true }, () => {
  const cases: [string, RegExp][] = [
    ["", /there is no statement/],
    ["-- nothing", /there is no statement/],
    ["SELEC 1", /near "SELEC": syntax error/],
    ["SELECT 1; SELECT 2", /one statement at a time/],
    ["SELECT * FROM proceses", /no table 'proceses': did you mean 'processes'\?/],
    ["SELECT p.nam FROM processes p", /no column 'p.nam': did you mean 'name'\?/],
    ['SELECT * FROM processes WHERE name = "n1"', /no column 'n1' \(a text is written in single quotes\)/],
    ["SELECT * FROM contents", /table contents needs WHERE pid = … \(or name = …\)/],
    ["SELECT * FROM contents WHERE pid > 3", /table contents needs WHERE pid/],
    ["SELECT * FROM contents WHERE pid = 3 OR name = 'x'", /contents needs pid or name given alike/],
    ["SELECT \0", /NUL/],
    [`SELECT '${"x".repeat(70_000)}'`, /at most 64 KiB/],
  ];
  for (const [text, about] of cases) {
    test(text.slice(0, 60), async () => {
      const { code, rawMessage } = await failure(text);
      assert.equal(code, Code.InvalidArgument, rawMessage);
      assert.match(rawMessage, about);
      assert.doesNotMatch(rawMessage, /\n/);
    });
  }
});

suite("tables of SQLite's own beside ours", { concurrency: true }, () => {
  const lists: TestSource = {
    tables: [{ name: "lists", columns, required: [] }],
    vms: {
      web1: {
        lists: [
          { pid: 1n, name: "[10,20]", data: null },
          { pid: 2n, name: "[]", data: null },
          { pid: 3n, name: '{"a":[30]}', data: null },
        ],
      },
    },
  };
  const cases: [string, unknown[][]][] = [
    ["SELECT value FROM json_each('[1,2]')", [[1n], [2n]]],
    ["SELECT fullkey FROM json_tree('[1,[2]]') ORDER BY id", [["$"], ["$[0]"], ["$[1]"], ["$[1][0]"]]],
    [
      "SELECT a.value, b.value FROM json_each('[1,2]') a, json_each('[3]') b",
      [
        [1n, 3n],
        [2n, 3n],
      ],
    ],
    [
      "SELECT pid, value FROM lists, json_each(name) WHERE pid < 3",
      [
        [1n, 10n],
        [1n, 20n],
      ],
    ],
    ["SELECT pid, value FROM lists, json_each(name, '$.a')", [[3n, 30n]]],
    [
      "SELECT pid, value FROM lists LEFT JOIN json_each(name) ON true WHERE pid < 3 ORDER BY pid, value",
      [
        [1n, 10n],
        [1n, 20n],
        [2n, null],
      ],
    ],
    [
      "SELECT pid, (SELECT sum(value) FROM json_each(name)) FROM lists WHERE pid < 3",
      [
        [1n, 30n],
        [2n, null],
      ],
    ],
    ["SELECT pid FROM lists WHERE EXISTS (SELECT 1 FROM json_tree(name) WHERE atom = 30)", [[3n]]],
    ["SELECT pid FROM json_each('[3,1]') j JOIN lists ON pid = j.value ORDER BY pid", [[1n], [3n]]],
    [
      "SELECT a.pid, b.pid, t.value, e.value FROM lists a, json_each(a.name) e, lists b, json_tree(b.name, '$.a[0]') t " +
        "WHERE a.pid = 1 AND b.pid = 3",
      [
        [1n, 3n, 30n, 10n],
        [1n, 3n, 30n, 20n],
      ],
    ],
    ["SELECT pid FROM lists WHERE pid IN (SELECT value FROM json_each('[2,3]')) ORDER BY pid", [[2n], [3n]]],
    [
      "WITH j AS MATERIALIZED (SELECT value FROM json_each('[1]')) SELECT pid FROM lists, j WHERE pid = value OR pid = 3",
      [[1n], [3n]],
    ],
  ];
  for (const [text, expected] of cases) {
    test(text.slice(0, 90), async () => assert.deepEqual((await query(lists, text)).rows, expected));
  }
});

suite("a defect", { concurrency: true }, () => {
  const defects: [string, Partial<SqlOptions>][] = [
    ["in the thread", { vms: [7 as unknown as string] }],
    [
      "in what reads",
      {
        read() {
          throw new TypeError("x is undefined");
        },
      },
    ],
  ];
  for (const [where, options] of defects) {
    test(`${where} is no answer to the caller`, async () => {
      const outcome = await query(source, "SELECT pid FROM processes", options).catch((error: unknown) => error);
      // The wire tells callers nothing of such an error, and hands it to the server's log.
      assert.ok(outcome instanceof TypeError && !(outcome instanceof ConnectError), String(outcome));
      assert.doesNotMatch(outcome.message, /\n|file:/);
      assert.match(outcome.stack!, /\.ts:\d+/);
    });
  }
});

suite("nothing but SELECT", { concurrency: true }, () => {
  for (const text of [
    "INSERT INTO processes (pid) VALUES (1)",
    "DELETE FROM processes",
    "UPDATE processes SET pid = 1",
    "CREATE TABLE x (y)",
    "CREATE TEMP TABLE x AS SELECT 1",
    "CREATE VIRTUAL TABLE x USING fts5(y)",
    "CREATE VIEW x AS SELECT 1",
    "DROP TABLE processes",
    "ATTACH '/etc/passwd' AS x",
    "ATTACH ':memory:' AS x",
    "DETACH main",
    "PRAGMA hard_heap_limit=0",
    "PRAGMA table_info(processes)",
    "SELECT * FROM pragma_compile_options",
    "VACUUM INTO '/tmp/x'",
    "BEGIN",
    "SAVEPOINT x",
    "REINDEX",
    "ANALYZE",
    "SELECT * FROM sqlite_schema",
    "SELECT * FROM dbstat",
    "SELECT * FROM sqlite_dbpage",
    "SELECT load_extension('/lib/x.so')",
    "SELECT readfile('/etc/passwd')",
    "SELECT fts5('x')",
    "EXPLAIN DELETE FROM processes",
  ]) {
    test(text, async () => {
      const { code, rawMessage } = await failure(text);
      assert.equal(code, Code.InvalidArgument, rawMessage);
      assert.match(rawMessage, /only SELECT|there is no table|no such function|there is no function/);
    });
  }
});

const endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) ";

suite("bounds", () => {
  test("time: of SQLite, of one long function, of a source that does not answer", async () => {
    const limits = { timeoutMs: 400 };
    const never: SqlOptions["read"] = async function* ({ signal }) {
      await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error)));
      yield new Uint8Array();
    };
    for (const [text, read] of [
      [`${endless} SELECT count(*) FROM c`, undefined],
      ["SELECT * FROM processes", never],
      ["SELECT instr(hex(zeroblob(4000000)), hex(zeroblob(2000000)) || '1')", undefined],
    ] as const) {
      const started = performance.now();
      const { code, rawMessage } = await failure(text, { limits, ...(read ? { read } : {}) });
      assert.equal(code, Code.DeadlineExceeded, rawMessage);
      assert.ok(performance.now() - started < 5_000);
    }
  });

  test("memory", async () => {
    const limits = { memoryBytes: 32 << 20 };
    for (const text of [
      `${endless} SELECT x, hex(zeroblob(1000)) AS h FROM c ORDER BY h`,
      "SELECT group_concat(hex(zeroblob(1000000))) FROM processes a, processes b",
      "SELECT zeroblob(1000000000)",
    ]) {
      const { code, rawMessage } = await failure(text, { limits });
      assert.equal(code, Code.ResourceExhausted, rawMessage);
    }
  });

  test("rows, and reads for values found on the way", async () => {
    assert.equal(
      (await failure(`${endless} SELECT x FROM c`, { limits: { rows: 1000 } })).code,
      Code.ResourceExhausted,
    );
    const joined = "SELECT c.data FROM processes p JOIN contents c ON c.pid = p.pid AND c.vm = p.vm";
    assert.equal((await query(source, joined)).rows.length, 80);
    const { code, rawMessage } = await failure(joined, { limits: { lateReads: 5 } });
    assert.equal(code, Code.ResourceExhausted);
    assert.match(rawMessage, /table contents would be read for more than 5 values/);
  });

  test("whoever stops reading ends the statement, and its reads", async () => {
    let aborted = false;
    const vms = ["web1", "db1"];
    const read = async function* (wanted: TableRead) {
      wanted.signal.addEventListener("abort", () => {
        aborted = true;
      });
      yield* readTable(source, vms[wanted.vm]!, wanted);
    };
    for await (const _ of runSql(`${endless} SELECT x FROM c, processes`, { tables: source.tables, vms, read })) break;
    assert.ok(aborted);
    const leaving = new AbortController();
    setTimeout(() => leaving.abort(new ConnectError("gone", Code.Canceled)), 100);
    const { code } = await failure(`${endless} SELECT count(*) FROM c`, { signal: leaving.signal });
    assert.equal(code, Code.Canceled);
  });

  test("more statements at once than threads", async () => {
    const answers = await Promise.all(
      Array.from({ length: 12 }, (_, i) => query(source, `SELECT ${i}, count(*) FROM processes`)),
    );
    for (const [i, { rows: found }] of answers.entries()) assert.deepEqual(found, [[BigInt(i), 80n]]);
  });
});

suite("VMs that do not answer", () => {
  const failing = (failed: readonly string[]): SqlOptions["read"] =>
    async function* (wanted) {
      const vm = ["web1", "db1"][wanted.vm]!;
      const [first, ...others] = [...readTable(source, vm, wanted)];
      yield first!;
      if (failed.includes(vm)) throw new ConnectError("the host is down", Code.Unavailable);
      yield* others;
    };

  test("are failures beside the rows of the others", async () => {
    const { rows: found, summary } = await query(source, "SELECT vm, count(*) FROM processes GROUP BY vm", {
      read: failing(["db1"]),
    });
    assert.deepEqual(found, [["web1", 40n]]);
    assert.deepEqual(
      summary.failures.map(({ vm, table, code, message }) => [vm, table, code, message]),
      [["db1", "processes", Code.Unavailable, "the host is down"]],
    );
    assert.equal(summary.vms, 2);
    assert.equal(summary.rows, 1n);
  });

  test("fail the statement when none does", async () => {
    const { code, rawMessage } = await failure("SELECT count(*) FROM processes", { read: failing(["web1", "db1"]) });
    assert.equal(code, Code.Unavailable);
    assert.match(rawMessage, /none of 2 VMs could be read; (?:web1|db1): the host is down/);
  });

  test("that are named and not there are failures too", async () => {
    const { rows: found, summary } = await query(source, "SELECT count(*) FROM processes WHERE vm IN ('web1', 'web2')");
    assert.deepEqual(found, [[40n]]);
    assert.deepEqual(
      summary.failures.map(({ vm, code }) => [vm, code]),
      [["web2", Code.NotFound]],
    );
  });

  test("and those that answer nonsense", async () => {
    const read: SqlOptions["read"] = async function* (wanted) {
      if (wanted.vm === 0) yield Uint8Array.from({ length: 64 }, (_, i) => (i * 37) & 0xff);
      else yield* readTable(source, "db1", wanted);
    };
    const { rows: found, summary } = await query(source, "SELECT count(*) FROM processes", { read });
    assert.deepEqual(found, [[40n]]);
    assert.deepEqual(
      summary.failures.map(({ vm, code }) => [vm, code]),
      [["web1", Code.DataLoss]],
    );
  });
});

test("bytes that are not UTF-8 come out as they went in, and names are unique", async () => {
  const { columns: names, rows: found } = await query(
    source,
    "SELECT data, pid, pid FROM processes WHERE pid = 7 AND vm = 'web1'",
  );
  assert.deepEqual(names, ["data", "pid", "pid:1"]);
  assert.deepEqual(found, [[new Uint8Array([0xff, 7]), 7n, 7n]]);
});

test("explaining reads nothing", async () => {
  const { rows: found, reads } = await query(source, "EXPLAIN QUERY PLAN SELECT * FROM processes WHERE vm = 'web1'");
  assert.match(String(found[0]?.at(-1)), /processes VIRTUAL TABLE INDEX \d+:vm=…/);
  assert.deepEqual(reads, []);
});
