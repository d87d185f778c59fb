import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Code } from "@connectrpc/connect";
import { failure, type Harness, protocols, startHarness, until, web1 } from "../testing/harness.ts";

let harness: Harness;
before(async () => {
  harness = await startHarness();
});
after(() => harness[Symbol.asyncDispose]());

for (const protocol of protocols) {
  test(`every way a token can be bad, by ${protocol}`, async () => {
    const { secret, token } = await harness.admin.createUserToken({ user: "viewer" });
    const good = harness.clients(secret, protocol);
    assert.equal((await good.account.whoAmI({})).user, "viewer");
    const refusals: [token: string, says: RegExp][] = [
      ["", /^no token was sent: run 'cloudvmi login'$/],
      ["hunter2", /^that is not a CloudVMI token .*: run 'cloudvmi login'/],
      [`cvmi_${"0".repeat(16)}_${"A".repeat(43)}`, /^unknown token: .*'cloudvmi login'$/],
      [`cvmi_${token?.id}_${"A".repeat(43)}`, /^unknown token: .*'cloudvmi login'$/],
    ];
    for (const [text, says] of refusals) {
      const error = await failure(harness.clients(text, protocol).vms.listVms({}));
      assert.equal(error.code, Code.Unauthenticated);
      assert.match(error.rawMessage, says);
    }
    await harness.admin.revokeUserToken({ id: token?.id ?? "" });
    for (const clients of [good, harness.clients(secret, protocol)]) {
      const error = await failure(clients.vms.listVms({}));
      assert.equal(error.code, Code.Unauthenticated);
      assert.match(error.rawMessage, /revoked.*'cloudvmi login'/);
    }
  });

  test(`health needs no token, by ${protocol}`, async () => {
    const { health } = harness.clients("", protocol);
    const { ready, agents, agentsReachable, version } = await health.check({});
    assert.deepEqual({ ready, agents, agentsReachable }, { ready: true, agents: 1, agentsReachable: 1 });
    assert.match(version, /^\d/);
  });
}

test("revoking a token ends its calls under way", async () => {
  const { secret, token } = await harness.admin.createUserToken({ user: "analyst" });
  const { guest } = harness.clients(secret);
  harness.agent.before = (method, signal) =>
    method.endsWith("second piece")
      ? new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)))
      : Promise.resolve();
  const stream = guest.streamMemory({ vm: { uuid: web1 } })[Symbol.asyncIterator]();
  assert.equal((await stream.next()).value?.data.length, 16);
  await harness.admin.revokeUserToken({ id: token?.id ?? "" });
  const error = await failure({ [Symbol.asyncIterator]: () => stream });
  assert.equal(error.code, Code.Unauthenticated);
  assert.match(error.rawMessage, /revoked/);
});

test("a user manages its own tokens, and only those", async () => {
  const { account } = await harness.as("viewer");
  const made = await account.createToken({ note: "laptop", lifetimeHours: 1 });
  const { tokens } = await account.listTokens({});
  const found = tokens.find(({ id }) => id === made.token?.id);
  assert.equal(found?.note, "laptop");
  assert.equal(found?.expiresMs, (found?.createdMs ?? 0n) + 3_600_000n);
  const banker = await harness.as("banker");
  assert.equal((await failure(banker.account.revokeToken({ id: made.token?.id }))).code, Code.NotFound);
  await account.revokeToken({ id: made.token?.id });
  assert.equal((await failure(harness.clients(made.secret).vms.listVms({}))).code, Code.Unauthenticated);
  assert.equal((await failure(account.createToken({ lifetimeHours: 24 * 367 }))).code, Code.InvalidArgument);
});

test("failed authentications are on the record, without secrets and in bounded number", async () => {
  const stranger = harness.clients(`cvmi_${"1".repeat(16)}_${"s3cr3t".padEnd(43, "x")}`, "connect over h2");
  await Promise.all(Array.from({ length: 200 }, () => failure(stranger.vms.listVms({}))));
  const records = async () => (await harness.admin.listAudit({ limit: 10_000 })).records;
  await until(async () => (await records()).some(({ reason }) => reason === "several"));
  const failed = (await records()).filter(({ action }) => action === "authenticate");
  for (const reason of ["missing", "malformed", "unknown", "revoked"]) {
    assert.ok(
      failed.some((record) => record.reason === reason && record.decision === "deny"),
      reason,
    );
  }
  assert.ok(failed.length < 120, `${failed.length} records`);
  assert.doesNotMatch(JSON.stringify(failed.map(({ detail }) => detail)) + harness.log.join(""), /s3cr3t/);
});
