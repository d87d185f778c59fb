// SQL over the guests of two tenants: each statement sees its tenant's VMs, and what the kernels of these say.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type Cluster, startCluster } from "../../demo/cluster.ts";
import { assertOneLine, json, topology } from "./support.ts";

let cluster: Cluster;
before(async () => {
  cluster = await startCluster(topology, (line) => console.log(line));
});
after(() => cluster?.[Symbol.asyncDispose]());

const sql = async <T = Record<string, unknown>[]>(user: string, statement: string, ...more: string[]) => {
  const answer = await json<{ rows: T; failures: unknown[] }>(cluster, user, ["sql", statement, ...more]);
  assert.deepEqual(answer.failures, []);
  return answer.rows;
};

describe("SQL", () => {
  test("reaches every VM of the tenant, and no other", async () => {
    const names = async (user: string) =>
      (await sql(user, "SELECT vm, count(*) AS n FROM processes GROUP BY vm ORDER BY vm")).map(({ vm, n }) => {
        assert.ok(Number(n) > 10, String(vm));
        return vm;
      });
    assert.deepEqual(await names("alice"), ["db1", "web1"]);
    assert.deepEqual(await names("bob"), ["ledger"]);
    assert.deepEqual(await sql("alice", "SELECT DISTINCT vm FROM processes", "--vm", "web1"), [{ vm: "web1" }]);
  });

  test("says what the guests' own /proc says, joined across tables and VMs", async () => {
    const rows = await sql<{ vm: string; pid: number; parent: string; envs: number }[]>(
      "alice",
      `SELECT p.vm, p.pid, q.name AS parent, (SELECT count(*) FROM process_envs e WHERE e.vm = p.vm AND e.pid = p.pid) AS envs
       FROM processes p JOIN processes q ON q.vm = p.vm AND q.pid = p.parent WHERE p.cmdline LIKE '%/lab/%'`,
    );
    for (const name of ["web1", "db1"]) {
      const { processes } = await cluster.guests.get(name)!.truth();
      const steady = [...processes.values()].filter((process) => process.cmdline.includes("/lab/"));
      assert.ok(steady.length >= 2);
      for (const { pid, stat } of steady) {
        const row = rows.find((each) => each.vm === name && each.pid === pid);
        assert.ok(row, `${name} ${pid}`);
        assert.equal(row.parent, processes.get(stat.ppid)?.comm, `${name} ${pid}`);
      }
    }
    assert.ok(rows.some(({ envs }) => envs > 0));
    const both = await sql(
      "alice",
      "SELECT a.name FROM processes a JOIN processes b ON b.name = a.name WHERE a.vm = 'web1' AND b.vm = 'db1' AND a.pid = 1",
    );
    assert.deepEqual(both, [{ name: "init" }]);
  });

  test("a VM of another tenant is like one that does not exist", async () => {
    const ask = async (vm: string, how: (vm: string) => string[]) => {
      const result = await cluster.cli("alice", ["sql", ...how(vm)]);
      return assertOneLine(result, 3, /no VM/, vm).replaceAll(vm, "VM");
    };
    for (const how of [
      (vm: string) => ["SELECT pid FROM processes", "--vm", vm],
      (vm: string) => [`SELECT pid FROM processes WHERE vm = '${vm}'`],
    ])
      assert.equal(await ask("ledger", how), await ask("nobody", how));
  });

  test("who may not read a table of a VM does not get it by SQL", async () => {
    const statement = "SELECT vm, count(*) AS n FROM process_envs WHERE pid = 1 GROUP BY vm";
    const denied = await cluster.cli("vera", ["sql", statement]);
    assertOneLine(denied, 3, /none of 2 VMs could be read; \w+1: 'read' on VM \w+1 needs the role analyst/, statement);
    const table = await cluster.cli("vera", ["table", "process_envs", "web1", "--where", "pid=1"]);
    assertOneLine(table, 3, /'read' on VM web1 needs the role analyst/, "the table itself");
    // What she may read goes on beside it.
    const both = "SELECT vm, pid FROM processes WHERE pid = 1 UNION ALL SELECT vm, pid FROM process_envs WHERE pid = 1";
    const partly = await cluster.cli("vera", ["sql", both, "--json"]);
    assert.equal(partly.code, 3, partly.stderr);
    const { rows, failures } = JSON.parse(partly.stdout) as { rows: { vm: string }[]; failures: { vm: string }[] };
    assert.deepEqual(rows.map(({ vm }) => vm).sort(), ["db1", "web1"]);
    assert.deepEqual(failures.map(({ vm }) => vm).sort(), ["db1", "web1"]);
    for (const failure of failures) {
      assert.partialDeepStrictEqual(failure, { table: "process_envs", code: "permission_denied" });
    }
    assert.equal((await sql("alice", statement)).length, 2);
  });

  test("wrong statements are one line", async () => {
    for (const [statement, about] of [
      ["SELECT * FROM proceses", /did you mean 'processes'\?/],
      ["SELECT FROM", /syntax error/],
      ["ATTACH '/etc/passwd' AS x", /only SELECT/],
      ["SELECT count(*) FROM file_contents", /table file_contents needs WHERE/],
    ] as const)
      assertOneLine(await cluster.cli("alice", ["sql", statement]), 2, about, statement);
  });

  test("a statement without end is ended, and the next one is answered", async () => {
    const cloud = cluster.connect("alice");
    const endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c";
    const leaving = new AbortController();
    setTimeout(() => leaving.abort(), 500);
    await assert.rejects(cloud.sql(endless, { signal: leaving.signal }).all());
    const reading = cloud.sql("SELECT vm FROM kernel_info ORDER BY vm");
    assert.deepEqual(await reading.all(), [{ vm: "db1" }, { vm: "web1" }]);
    assert.deepEqual((await reading.summary).failures, []);
    await cloud.close();
  });
});
