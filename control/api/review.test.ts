// What a call was permitted must hold for as long as it runs.
import assert from "node:assert/strict";
import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, beforeEach, test } from "node:test";
import { Code } from "@connectrpc/connect";
import { bank1, failure, type Harness, startHarness, until, web1 } from "../testing/harness.ts";

let harness: Harness;
/** Lets the rest of the answers come. */
let goOn = () => {};
before(async () => {
  harness = await startHarness();
});
beforeEach(() => {
  const gone = new Promise<void>((resolve) => (goOn = resolve));
  harness.agent.before = (method) => (method.endsWith("second piece") ? gone : Promise.resolve());
});
after(async () => {
  goOn();
  await harness[Symbol.asyncDispose]();
});

/** A stream whose first piece has come. */
async function started(token: string) {
  const { guest } = harness.clients(token);
  const stream = guest.streamMemory({ vm: { uuid: web1 } })[Symbol.asyncIterator]();
  assert.equal((await stream.next()).value?.data.length, 16);
  return { [Symbol.asyncIterator]: () => stream };
}

async function lastEnd() {
  let found: { action: string; decision: string; reason: string; detail: string } | undefined;
  await until(async () => {
    const { records } = await harness.admin.listAudit({ newest: true, limit: 20 });
    found = records.find(({ detail }) => detail.startsWith('{"ended"'));
    return found !== undefined;
  });
  return `${found?.action} ${found?.decision} ${found?.reason}`;
}

test("a stream ends with its caller's membership, and is on the record", async () => {
  const token = await harness.token("analyst");
  const other = await started(await harness.token("owner"));
  const stream = await started(token);
  await harness.admin.setMembership({ user: "analyst", project: "shop", role: "" });
  const error = await failure(stream);
  assert.equal(error.code, Code.NotFound);
  const now = await failure(harness.clients(token).guest.streamMemory({ vm: { uuid: web1 } }));
  assert.equal(error.rawMessage, now.rawMessage);
  assert.equal(await lastEnd(), "stream deny may not list the VM, or no such VM");
  await harness.admin.setMembership({ user: "analyst", project: "shop", role: "analyst" });
  goOn();
  let pieces = 0;
  for await (const _ of other) pieces++;
  assert.equal(pieces, 1);
});

test("a stream ends when its caller's role does not suffice any more", async () => {
  const stream = await started(await harness.token("analyst"));
  await harness.admin.setMembership({ user: "analyst", project: "shop", role: "viewer" });
  const error = await failure(stream);
  assert.equal(error.code, Code.PermissionDenied);
  assert.match(error.rawMessage, /'stream' on VM web1 needs the role analyst/);
  assert.equal(await lastEnd(), "stream deny no policy permits it");
  await harness.admin.setMembership({ user: "analyst", project: "shop", role: "analyst" });
});

test("a stream ends when its VM is given to another project, and one of another VM goes on", async () => {
  const stream = await started(await harness.token("analyst"));
  await harness.admin.setOwner({ vmUuid: bank1, project: "shop" });
  await harness.admin.setOwner({ vmUuid: web1, project: "bank" });
  assert.equal((await failure(stream)).code, Code.NotFound);
  await harness.admin.setOwner({ vmUuid: web1, project: "" });
  const next = await started(await harness.token("analyst"));
  await harness.admin.setOwner({ vmUuid: bank1, project: "" });
  goOn();
  for await (const piece of next) assert.equal(piece.zeros, 4096n);
});

test("a stream ends when its host says that the VM is another project's", async () => {
  const stream = await started(await harness.token("analyst"));
  harness.agent.put({ uuid: web1, name: "web1", project: "bank" });
  assert.equal((await failure(stream)).code, Code.NotFound);
  harness.agent.put({ uuid: web1, name: "web1", project: "shop" });
  const { vms } = await harness.as("viewer");
  await until(async () => (await vms.listVms({})).vms.length === 1);
});

test("a statement ends when one of the VMs that it has read may not be read any more", async () => {
  const { sql } = await harness.as("viewer");
  const endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT count(*) FROM processes, c";
  const answer = failure(sql.query({ statement: endless }));
  await until(() => harness.agent.seen.some((each) => each.startsWith(`readTable ${web1}`)));
  await harness.admin.setMembership({ user: "viewer", project: "shop", role: "" });
  assert.equal((await answer).code, Code.NotFound);
  await harness.admin.setMembership({ user: "viewer", project: "shop", role: "viewer" });
});

test("a call ends when its token expires", async () => {
  const { secret, token } = await harness.admin.createUserToken({ user: "analyst", lifetimeHours: 1 });
  const database = new DatabaseSync(path.join(harness.directory, "state", "state.db"));
  database.prepare("UPDATE tokens SET expires_ms = ? WHERE id = ?").run(Date.now() + 1500, token?.id ?? "");
  database.close();
  const error = await failure(await started(secret));
  assert.equal(error.code, Code.Unauthenticated);
  assert.match(error.rawMessage, /expired/);
  assert.equal(await lastEnd(), "stream deny the token is expired");
});

test("a call whose token is revoked is on the record as ended", async () => {
  const { secret, token } = await harness.admin.createUserToken({ user: "analyst" });
  const stream = await started(secret);
  await harness.admin.revokeUserToken({ id: token?.id ?? "" });
  assert.equal((await failure(stream)).code, Code.Unauthenticated);
  assert.equal(await lastEnd(), "stream deny the token is revoked");
});
