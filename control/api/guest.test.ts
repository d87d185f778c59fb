import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { Code } from "@connectrpc/connect";
import { VmStatus } from "../../proto/gen/cloudvmi/v1/vm_pb.ts";
import { failure, type Harness, protocols, startHarness, stray, until, web1 } from "../testing/harness.ts";

let harness: Harness;
before(async () => {
  harness = await startHarness();
});
after(() => harness[Symbol.asyncDispose]());
afterEach(() => {
  harness.agent.before = async () => {};
  harness.agent.seen.length = 0;
});

const id = { uuid: web1, incarnation: "" };

for (const protocol of protocols) {
  test(`answers of the agent come through unchanged, by ${protocol}`, async () => {
    const { guest } = await harness.as("responder", protocol);
    const rows: bigint[] = [];
    const notes: string[] = [];
    for await (const batch of guest.readTable({ vm: id, table: "processes" })) {
      rows.push(...(batch.columns[0]?.integers ?? []));
      notes.push(...(batch.summary?.notes ?? []));
    }
    assert.deepEqual(rows, [1n, 2n]);
    assert.deepEqual(notes, ["processes"]);
    const read = await guest.readMemory({ vm: id, items: [{ length: 3 }, { length: 1 }] });
    assert.deepEqual(
      read.results.map(({ data }) => [...data]),
      [[7, 7, 7], [7]],
    );
    assert.equal((await guest.pause({ vm: id })).lease, "lease-1");
    assert.deepEqual(
      (await guest.listTables({ vm: id })).tables.map(({ name }) => name),
      ["processes", "secrets", "future"],
    );
    assert.equal((await guest.listTables({})).tables.length, 3);
    // The agent needs the incarnation, which the caller had left open.
    assert.deepEqual(harness.agent.seen, [`readTable ${web1}/1`, `readMemory ${web1}/1`, `pause ${web1}/1`]);
  });
}

test("a VM may be named by its name", async () => {
  const { guest } = await harness.as("analyst");
  await guest.translate({ vm: { uuid: "web1" } });
  assert.deepEqual(harness.agent.seen, [`translate ${web1}/1`]);
});

test("what a role does not allow on a VM that it may see is refused by the name of the role that would", async () => {
  const viewer = await harness.as("viewer");
  const refused = [
    ["read", () => viewer.guest.readMemory({ vm: id })],
    ["stream", () => viewer.guest.streamMemory({ vm: id })],
    ["translate", () => viewer.guest.translate({ vm: id })],
    ["symbols", () => viewer.guest.lookupSymbols({ vm: id })],
    ["symbols", () => viewer.guest.lookupTypes({ vm: id })],
    ["read", () => viewer.guest.readObject({ vm: id })],
    ["registers", () => viewer.guest.getRegisters({ vm: id })],
    ["read", () => viewer.guest.readTable({ vm: id, table: "secrets" })],
  ] as const;
  for (const [action, call] of refused) {
    const error = await failure(call());
    assert.equal(error.code, Code.PermissionDenied, action);
    assert.equal(
      error.rawMessage,
      `'${action}' on VM web1 needs the role analyst in project shop, you are viewer there: ask an operator`,
    );
  }
  const analyst = await harness.as("analyst");
  assert.match((await failure(analyst.guest.pause({ vm: id }))).rawMessage, /needs the role responder/);
  assert.match((await failure(analyst.guest.readTable({ vm: id, table: "future" }))).rawMessage, /'levitate'/);
  assert.deepEqual(harness.agent.seen, []);
});

test("a VM that is named badly, or not at all, is said so", async () => {
  const { guest } = await harness.as("viewer");
  for (const vm of [undefined, { uuid: "" }, { uuid: "x".repeat(300) }]) {
    assert.equal((await failure(guest.readTable({ vm, table: "processes" }))).code, Code.InvalidArgument);
  }
});

test("operators see every VM and read none", async () => {
  const { vms } = await harness.admin.listAllVms({});
  assert.deepEqual(
    vms.map(({ name, project, host }) => [name, project, host]),
    [
      ["bank1", "bank", "host1"],
      ["stray", "", "host1"],
      ["web1", "shop", "host1"],
    ],
  );
  await harness.admin.createUser({ name: "op", operator: true });
  const op = await harness.as("op");
  assert.equal((await failure(op.guest.readTable({ vm: id, table: "processes" }))).code, Code.NotFound);
  assert.deepEqual((await op.vms.listVms({})).vms, []);
});

test("the owner that an operator names outranks the agent, and takes effect at once", async () => {
  const viewer = await harness.as("viewer");
  const banker = await harness.as("banker");
  await harness.admin.setOwner({ vmUuid: stray.toUpperCase(), project: "bank" });
  assert.equal((await banker.vms.getVm({ vm: "stray" })).vm?.project, "bank");
  await harness.admin.setOwner({ vmUuid: web1, project: "bank" });
  assert.equal((await failure(viewer.vms.getVm({ vm: "web1" }))).code, Code.NotFound);
  await harness.admin.setOwner({ vmUuid: web1, project: "" });
  await harness.admin.setOwner({ vmUuid: stray, project: "" });
  assert.equal((await viewer.vms.getVm({ vm: "web1" })).vm?.project, "shop");
  assert.equal((await failure(banker.vms.getVm({ vm: "stray" }))).code, Code.NotFound);
});

test("a changed role holds for the next call", async () => {
  await harness.admin.createUser({ name: "carol" });
  const carol = await harness.as("carol");
  const code = async () => (await failure(carol.guest.readMemory({ vm: id }))).code;
  assert.equal(await code(), Code.NotFound);
  await harness.admin.setMembership({ user: "carol", project: "shop", role: "viewer" });
  assert.equal(await code(), Code.PermissionDenied);
  await harness.admin.setMembership({ user: "carol", project: "shop", role: "owner" });
  await carol.guest.readMemory({ vm: id });
  await harness.admin.setMembership({ user: "carol", project: "shop", role: "" });
  assert.equal(await code(), Code.NotFound);
});

test("an action that acts is on the record before it reaches the agent; a read before it is answered", async () => {
  const { guest } = await harness.as("responder");
  const newest = async () => (await harness.admin.listAudit({ newest: true, limit: 2 })).records;
  let found: string[] = [];
  harness.agent.before = async () => {
    // The newest of all is the question about the record itself.
    found = (await newest()).slice(1).map((each) => `${each.user} ${each.action} ${each.vmUuid} ${each.decision}`);
  };
  await guest.pause({ vm: id, leaseSeconds: 9 });
  assert.deepEqual(found, [`responder pause ${web1} allow`]);
  harness.agent.before = async () => {};
  await guest.readMemory({
    vm: id,
    items: [{ space: { space: { case: "pid", value: 5 } }, address: 4096n, length: 8 }],
  });
  const record = (await newest())[1];
  assert.equal(record?.reason, "analyst");
  assert.equal(record?.vmIncarnation, "1");
  assert.equal(record?.project, "shop");
  assert.equal(record?.detail, '{"items":1,"bytes":8,"first":["pid 5 0x1000 8"]}');
  const verified = await harness.admin.verifyAudit({});
  assert.equal(verified.intact, true);
});

test("calls of one user at once are limited, those of others are not", async () => {
  const gate = Promise.withResolvers<void>();
  harness.agent.before = () => gate.promise;
  const analyst = await harness.as("analyst");
  const owner = await harness.as("owner");
  const reads = Array.from({ length: 8 }, () => analyst.guest.translate({ vm: id }));
  await until(() => harness.agent.seen.length === 8);
  const error = await failure(analyst.guest.translate({ vm: id }));
  assert.equal(error.code, Code.ResourceExhausted);
  assert.match(error.rawMessage, /8 calls under way/);
  const other = owner.guest.translate({ vm: id });
  gate.resolve();
  await Promise.all([...reads, other]);
  await analyst.guest.translate({ vm: id });
});

test("streams have a limit of their own", async () => {
  const gate = Promise.withResolvers<void>();
  harness.agent.before = () => gate.promise;
  const { guest } = await harness.as("analyst");
  const drain = async () => {
    for await (const _ of guest.streamMemory({ vm: id }));
  };
  const streams = Array.from({ length: 4 }, drain);
  await until(() => harness.agent.seen.length === 4);
  const error = await failure(guest.streamMemory({ vm: id }));
  assert.match(error.rawMessage, /4 'stream' calls under way/);
  gate.resolve();
  await Promise.all([...streams, guest.translate({ vm: id })]);
});

test("a caller's timeout ends the call at the agent too", async () => {
  const { guest } = await harness.as("analyst");
  const aborted = Promise.withResolvers<void>();
  harness.agent.before = (_method, signal) =>
    new Promise((_, reject) => {
      signal.addEventListener("abort", () => {
        aborted.resolve();
        reject(signal.reason);
      });
    });
  const error = await failure(guest.translate({ vm: id }, { timeoutMs: 50 }));
  assert.equal(error.code, Code.DeadlineExceeded);
  await aborted.promise;
});

test("an incarnation that is over is refused, without asking the agent", async () => {
  const { guest, vms } = await harness.as("analyst");
  await guest.translate({ vm: { uuid: web1, incarnation: "1" } });
  harness.agent.put({ uuid: web1, incarnation: "2", name: "web1", project: "shop" });
  await until(async () => (await vms.getVm({ vm: "web1" })).vm?.id?.incarnation === "2");
  harness.agent.seen.length = 0;
  const error = await failure(guest.translate({ vm: { uuid: web1, incarnation: "1" } }));
  assert.equal(error.code, Code.Aborted);
  assert.match(error.rawMessage, /restarted since: it runs as incarnation "2" now/);
  assert.deepEqual(harness.agent.seen, []);
  await guest.translate({ vm: id });
  assert.deepEqual(harness.agent.seen, [`translate ${web1}/2`]);
});

test("while an agent is away its VMs are shown as unreachable, and it comes back by itself", async () => {
  const { guest, vms } = await harness.as("analyst");
  const status = async () => (await vms.getVm({ vm: "web1" })).vm?.status;
  const pending = Promise.withResolvers<void>();
  harness.agent.before = () => pending.promise;
  const underWay = failure(guest.translate({ vm: id }));
  await until(() => harness.agent.seen.length === 1);
  await harness.agent.stop();
  assert.equal((await underWay).code, Code.Unavailable);
  pending.resolve();
  await until(async () => (await status()) === VmStatus.UNREACHABLE);
  const error = await failure(guest.translate({ vm: id }));
  assert.equal(error.code, Code.Unavailable);
  assert.equal(error.rawMessage, "the host of VM web1 can't be reached now: try again later");
  assert.match((await harness.admin.listAgents({})).agents[0]?.problem ?? "", /ENOENT|ECONNREFUSED|closed/);
  assert.equal((await guest.listTables({ vm: id })).tables.length, 3, "what it offered is still known");

  await harness.agent.start();
  await until(async () => (await status()) === VmStatus.RUNNING);
  await guest.translate({ vm: id });
});
