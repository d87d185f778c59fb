import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { AdminService } from "../../proto/gen/cloudvmi/v1/admin_pb.ts";
import { failure, type Harness, startHarness } from "../testing/harness.ts";

let harness: Harness;
before(async () => {
  harness = await startHarness();
});
after(() => harness[Symbol.asyncDispose]());

const methods = Object.keys(AdminService.method) as (keyof typeof AdminService.method)[];

test("every administrative call is for operators only, and every refusal on the record", async () => {
  const owner = await harness.as("owner");
  for (const method of methods) {
    const error = await failure((owner.admin[method] as (request: object) => Promise<unknown>)({}));
    assert.equal(error.code, Code.PermissionDenied, method);
    assert.match(error.rawMessage, /needs an operator, which owner is not/, method);
  }
  const { records } = await harness.admin.listAudit({ limit: 1000 });
  const denied = records.filter(({ user, decision }) => user === "owner" && decision === "deny");
  assert.equal(denied.length, methods.length);
});

test("from an empty database to a user that reads", async () => {
  const { admin } = harness;
  const { project } = await admin.createProject({ name: "lab", description: "the lab" });
  assert.equal(project?.description, "the lab");
  await admin.createUser({ name: "dora" });
  await admin.setMembership({ user: "dora", project: "lab", role: "viewer" });
  const dora = await harness.as("dora");
  const who = await dora.account.whoAmI({});
  assert.equal(who.user, "dora");
  assert.equal(who.operator, false);
  assert.deepEqual(
    who.memberships.map(({ project, role }) => [project, role]),
    [["lab", "viewer"]],
  );
  assert.ok(who.tokenExpiresMs > BigInt(Date.now()));
  const { users } = await admin.listUsers({});
  assert.deepEqual(
    users.filter(({ operator }) => operator).map(({ name }) => name),
    ["admin"],
  );
  assert.ok((await admin.listProjects({})).projects.some(({ name }) => name === "lab"));
  assert.equal((await admin.listUserTokens({ user: "dora" })).tokens[0]?.id, who.tokenId);
});

test("bad requests say what is wrong", async () => {
  const { admin } = harness;
  const refused: [() => Promise<unknown>, Code, RegExp][] = [
    [() => admin.createProject({ name: "a/b" }), Code.InvalidArgument, /"a\/b" is no name for a project: use up to 63/],
    [() => admin.createProject({ name: "shop" }), Code.InvalidArgument, /project shop exists already/],
    [() => admin.setMembership({ user: "eve", project: "shop", role: "viewer" }), Code.NotFound, /no user "eve"/],
    [
      () => admin.setMembership({ user: "owner", project: "shop", role: "king" }),
      Code.InvalidArgument,
      /no role "king"/,
    ],
    [() => admin.setOwner({ vmUuid: "web1", project: "shop" }), Code.InvalidArgument, /"web1" is no UUID/],
    [() => admin.createUserToken({ user: "eve" }), Code.NotFound, /no user "eve"/],
    [() => admin.revokeUserToken({ id: "zz" }), Code.NotFound, /no token "zz"/],
    [() => admin.listAudit({ limit: 10_001 }), Code.InvalidArgument, /over 10000/],
    [() => admin.verifyAudit({ anchorSequence: 5n }), Code.InvalidArgument, /give both/],
    [() => admin.verifyAudit({ anchorSequence: 5n, anchorHash: "abc" }), Code.InvalidArgument, /64 hexadecimal/],
  ];
  for (const [call, code, says] of refused) {
    const error = await failure(call());
    assert.equal(error.code, code);
    assert.match(error.rawMessage, says);
  }
});

test("the trail is listed in pages, and verified against an anchor", async () => {
  const { admin } = harness;
  const first = (await admin.listAudit({ limit: 3 })).records;
  assert.deepEqual(
    first.map(({ sequence }) => sequence),
    [1n, 2n, 3n],
  );
  assert.equal((await admin.listAudit({ limit: 1, after: 3n })).records[0]?.sequence, 4n);
  const verified = await admin.verifyAudit({ anchorSequence: 2n, anchorHash: first[1]?.hash });
  assert.equal(verified.intact, true);
  assert.ok(verified.headSequence > 4n);
  const forged = await admin.verifyAudit({ anchorSequence: 2n, anchorHash: first[0]?.hash });
  assert.equal(forged.intact, false);
  assert.equal(forged.brokenAt, 2n);
  const cut = await admin.verifyAudit({ anchorSequence: 100_000n, anchorHash: first[0]?.hash });
  assert.match(cut.problem, /cut off/);
});

test("what a stranger may put into a record is bounded", async () => {
  const { guest } = await harness.as("viewer");
  const names = Array.from({ length: 5000 }, () => "x".repeat(300));
  await guest.lookupSymbols({ vm: { uuid: "web1" }, names }).catch((error) => assert.ok(error instanceof ConnectError));
  const [, record] = (await harness.admin.listAudit({ newest: true, limit: 2 })).records;
  assert.equal(record?.action, "symbols");
  assert.ok((record?.detail.length ?? 0) < 5000, `${record?.detail.length}`);
});
