import assert from "node:assert/strict";
import path from "node:path";
import { after, afterEach, before, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { sql } from "kysely";
import type { SqlSummary } from "../../proto/gen/cloudvmi/v1/sql_pb.ts";
import { openAuditStore } from "../state/database.ts";
import {
  absent,
  bank1,
  type Clients,
  failure,
  type Harness,
  protocols,
  startHarness,
  stray,
  web1,
} from "../testing/harness.ts";

const web2 = "00000000-0000-4000-8000-00000000aaa2";
let harness: Harness;
before(async () => {
  harness = await startHarness({
    vms: [
      { uuid: web1, name: "web1", project: "shop" },
      { uuid: web2, name: "web2", project: "shop" },
      { uuid: bank1, name: "bank1", project: "bank" },
      { uuid: stray, name: "stray", project: "no-such-project" },
    ],
  });
});
after(() => harness[Symbol.asyncDispose]());
afterEach(() => {
  harness.agent.before = async () => {};
  harness.agent.seen.length = 0;
});

async function ask(clients: Clients, statement: string, vms: string[] = []) {
  const rows: unknown[][] = [];
  let summary: SqlSummary | undefined;
  for await (const message of clients.sql.query({ statement, vms })) {
    for (const { values } of message.rows) rows.push(values.map(({ value }) => value.value));
    summary ??= message.summary;
  }
  assert.ok(summary);
  return {
    rows,
    summary,
    failures: summary.failures.map(({ vm, table, code, message }) => ({ vm, table, code, message })),
  };
}

for (const protocol of protocols) {
  test(`which VMs could not answer to the end, and what was read again, is part of the answer, by ${protocol}`, async () => {
    const analyst = await harness.as("analyst", protocol);
    const { summary } = await ask(analyst, "SELECT count(*) FROM secrets");
    const notes = summary.notes.map(({ vm, table, note }) => [vm, table, note]).sort();
    assert.deepEqual(notes, [
      ["web1", "secrets", "secrets"],
      ["web2", "secrets", "secrets"],
    ]);
    assert.deepEqual([summary.retried, summary.reads.map(({ retried }) => retried)], [6n, [6n]]);
  });

  test(`a statement sees the caller's VMs and no other, by ${protocol}`, async () => {
    const owner = await harness.as("owner", protocol);
    const { rows, failures } = await ask(owner, "SELECT vm, pid FROM processes ORDER BY vm, pid");
    assert.deepEqual(rows, [
      ["web1", 1n],
      ["web1", 2n],
      ["web2", 1n],
      ["web2", 2n],
    ]);
    assert.deepEqual(failures, []);
    assert.deepEqual(harness.agent.seen.sort(), [`readTable ${web1}/1`, `readTable ${web2}/1`]);
  });
}

test("only the VMs that the statement needs are read", async () => {
  const owner = await harness.as("owner");
  assert.deepEqual((await ask(owner, "SELECT count(*) FROM processes WHERE vm = 'web2'")).rows, [[2n]]);
  assert.deepEqual((await ask(owner, "SELECT count(*) FROM processes", ["web2"])).rows, [[2n]]);
  assert.deepEqual(harness.agent.seen, [`readTable ${web2}/1`, `readTable ${web2}/1`]);
  assert.deepEqual((await ask(await harness.as("nobody"), "SELECT count(*) FROM processes")).rows, [[0n]]);
});

test("a VM of another tenant is like one that does not exist", async () => {
  const owner = await harness.as("owner");
  for (const how of [
    (vm: string) => failure(owner.sql.query({ statement: "SELECT pid FROM processes", vms: [vm] })),
    (vm: string) => failure(owner.sql.query({ statement: `SELECT pid FROM processes WHERE vm = '${vm}'` })),
  ]) {
    const described = async (vm: string) => {
      const { code, rawMessage } = await how(vm);
      return `${code} ${rawMessage.replaceAll(vm, "VM")}`;
    };
    const nothing = await described(absent);
    assert.match(nothing, new RegExp(`^${Code.NotFound} `));
    assert.equal(await described(bank1), nothing);
    assert.equal(await described("bank1"), nothing);
    assert.equal(await described("stray"), nothing);
  }
  const beside = async (vm: string) =>
    JSON.stringify((await ask(owner, "SELECT vm FROM processes", ["web1", vm])).failures).replaceAll(vm, "VM");
  assert.match(await beside(absent), /^\[\{"vm":"VM"/);
  assert.equal(await beside("bank1"), await beside(absent));
  assert.ok(harness.agent.seen.every((call) => call.includes(web1)));
});

test("what a role may not read is a failure of the VM, as is what went wrong there", async () => {
  const viewer = await harness.as("viewer");
  const refused = await failure(viewer.sql.query({ statement: "SELECT * FROM secrets" }));
  assert.equal(refused.code, Code.PermissionDenied);
  assert.match(refused.rawMessage, /none of 2 VMs could be read; web\d: 'read' on VM web\d needs the role analyst/);
  assert.deepEqual(harness.agent.seen, []);
  assert.deepEqual((await ask(await harness.as("analyst"), "SELECT count(*) FROM secrets")).rows, [[4n]]);

  harness.agent.before = async () => {
    if (harness.agent.seen.at(-1)?.includes(web2)) throw new ConnectError("it is booting", Code.FailedPrecondition);
  };
  const { rows, failures } = await ask(viewer, "SELECT vm, count(*) FROM processes GROUP BY vm");
  assert.deepEqual(rows, [["web1", 2n]]);
  assert.deepEqual(failures, [
    { vm: "web2", table: "processes", code: Code.FailedPrecondition, message: "it is booting" },
  ]);
});

test("the statement and each read are in the trail", async () => {
  const { records: before } = await harness.admin.listAudit({ newest: true, limit: 1 });
  await ask(
    await harness.as("analyst"),
    "SELECT s.pid FROM secrets s JOIN processes p ON p.pid = s.pid WHERE s.vm = 'web1'",
  );
  const { records } = await harness.admin.listAudit({ after: before[0]!.sequence, limit: 100 });
  const trail = records
    .filter(({ user }) => user === "analyst")
    .map(({ action, vmUuid, detail }) => [action, vmUuid, detail]);
  const statement = trail.find(([action]) => action === "sql");
  assert.match(String(statement?.[2]), /"statement":"SELECT s.pid FROM secrets/);
  const reads = trail.filter(([action]) => action === "table" || action === "read");
  assert.deepEqual(reads.map(([action, uuid]) => `${action} ${uuid}`).sort(), [
    `read ${web1}`,
    `table ${web1}`,
    `table ${web2}`,
  ]);
});

test("many named VMs wait for the trail together, and come in the order of their names", async () => {
  const owner = await harness.as("owner");
  const started = (await harness.admin.listAudit({ newest: true, limit: 1 })).records[0]!.sequence;
  const names = ["web2", ...Array.from({ length: 200 }, (_, n) => `absent${n}`), "web1", web2];
  const { rows, failures } = await ask(owner, "SELECT DISTINCT vm FROM processes", names);
  assert.deepEqual(rows.flat().sort(), ["web1", "web2"]);
  assert.equal(failures.length, 200);
  const { records } = await harness.admin.listAudit({ after: started, limit: 1000 });
  const denied = records.filter(({ decision }) => decision === "deny");
  assert.deepEqual(
    denied.map(({ detail }) => JSON.parse(detail).vm),
    names.filter((name) => name.startsWith("absent")),
  );
});

test("no row leaves whose record can't be written", async () => {
  const owner = await harness.as("owner");
  const trail = await openAuditStore(path.join(harness.directory, "state"));
  const body = "SELECT RAISE(FAIL, 'disk full')";
  await sql
    .raw(`CREATE TRIGGER full BEFORE INSERT ON audit WHEN NEW.action = 'table' BEGIN ${body}; END`)
    .execute(trail);
  try {
    const rows: unknown[] = [];
    const query = async () => {
      for await (const message of owner.sql.query({ statement: "SELECT pid FROM processes" }))
        rows.push(...message.rows);
    };
    const refused = await failure(query());
    assert.deepEqual([refused.code, refused.rawMessage], [Code.Internal, "internal error; the server's log says more"]);
    assert.deepEqual(rows, []);
  } finally {
    await sql.raw("DROP TRIGGER full").execute(trail);
    await trail.destroy();
  }
});

test("a wrong statement is the caller's to mend, and statements of one user are limited", async () => {
  const owner = await harness.as("owner");
  const { code, rawMessage } = await failure(owner.sql.query({ statement: "SELECT pdi FROM processes" }));
  assert.equal(code, Code.InvalidArgument);
  assert.match(rawMessage, /no column 'pdi': did you mean 'pid'\?/);
  const { promise, resolve } = Promise.withResolvers<void>();
  harness.agent.before = () => promise;
  const many = Array.from({ length: 6 }, () =>
    ask(owner, "SELECT pid FROM processes").then(
      () => 0,
      (error: ConnectError) => error.code,
    ),
  );
  setTimeout(resolve, 1000);
  const codes = await Promise.all(many);
  assert.equal(codes.filter((each) => each === Code.ResourceExhausted).length, 2);
  assert.equal(codes.filter((each) => each === 0).length, 4);
});
