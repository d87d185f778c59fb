// A VM that isn't the caller's answers exactly like one that does not exist.
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import https from "node:https";
import path from "node:path";
import { after, before, test } from "node:test";
import { inspect } from "node:util";
import { Code } from "@connectrpc/connect";
import { GuestService } from "../../proto/gen/cloudvmi/v1/guest_pb.ts";
import {
  absent,
  bank1,
  type Clients,
  failure,
  type Harness,
  protocols,
  startHarness,
  stray,
  until,
  web1,
} from "../testing/harness.ts";

let harness: Harness;
before(async () => {
  harness = await startHarness();
});
after(() => harness[Symbol.asyncDispose]());

const methods = Object.keys(GuestService.method) as (keyof typeof GuestService.method)[];

/** All that is in the error, with what the caller had sent itself taken out. */
async function seen(clients: Clients, method: keyof typeof GuestService.method, vm: string) {
  const error = await failure(clients.guest[method]({ vm: { uuid: vm, incarnation: "1" } }));
  return shown(error, vm);
}

function shown(error: Awaited<ReturnType<typeof failure>>, vm: string) {
  const headers = [...error.metadata]
    .filter(([name]) => name !== "date")
    .map((each) => each.join(": "))
    .sort();
  return JSON.stringify({
    code: error.code,
    message: error.message,
    rawMessage: error.rawMessage,
    details: error.details,
    cause: inspect(error.cause),
    headers,
  }).replaceAll(vm, "VM");
}

for (const protocol of protocols) {
  test(`every method, by ${protocol}`, async () => {
    const clients = await harness.as("owner", protocol);
    for (const method of methods) {
      const nothing = await seen(clients, method, absent);
      assert.match(nothing, new RegExp(`"code":${Code.NotFound}`), method);
      assert.equal(await seen(clients, method, bank1), nothing, `${method}, another tenant's`);
      assert.equal(await seen(clients, method, stray), nothing, `${method}, nobody's`);
      assert.equal(await seen(clients, method, bank1.toUpperCase()), nothing, `${method}, in capitals`);
    }
    const nothing = shown(await failure(clients.vms.getVm({ vm: absent })), absent);
    assert.equal(shown(await failure(clients.vms.getVm({ vm: bank1 })), bank1), nothing);
    const noName = shown(await failure(clients.vms.getVm({ vm: "bank9" })), "bank9");
    assert.equal(shown(await failure(clients.vms.getVm({ vm: "bank1" })), "bank1"), noName);
  });
}

test("no table tells a VM from none, also one that this service can't permit, and each try is on the record", async () => {
  const { guest } = await harness.as("owner");
  const tries = async () =>
    (await harness.admin.listAudit({ limit: 10_000 })).records
      .filter(({ user, action, decision }) => user === "owner" && action === "table" && decision === "deny")
      .map(({ detail }) => JSON.parse(detail) as { vm?: string; table: string });
  const before = (await tries()).length;
  for (const table of ["processes", "secrets", "future"]) {
    const ask = async (vm: string) => shown(await failure(guest.readTable({ vm: { uuid: vm }, table })), vm);
    const nothing = await ask(absent);
    assert.match(nothing, new RegExp(`"code":${Code.NotFound}`), table);
    assert.equal(await ask(bank1), nothing, table);
    assert.equal(await ask("bank1"), (await ask("bank9")).replaceAll("bank9", "VM"), table);
  }
  const own = await failure(guest.readTable({ vm: { uuid: web1 }, table: "future" }));
  assert.equal(own.code, Code.PermissionDenied);
  assert.match(own.rawMessage, /table future needs the permission 'levitate', which this service does not know/);
  const asked = ["processes", "secrets", "future"].flatMap((table) =>
    [absent, bank1, "bank9", "bank1"].map((vm) => ({ vm, table })),
  );
  const found = (await tries()).slice(before).map(({ vm, table }) => ({ ...(vm === undefined ? {} : { vm }), table }));
  const text = (each: object) => JSON.stringify(each);
  assert.deepEqual(found.map(text).sort(), [...asked, { table: "future" }].map(text).sort());
});

test("the HTTP answers are equal byte for byte, but for their date", async () => {
  const token = await harness.token("owner");
  const ask = async (vm: string) => {
    const url = `${harness.control.url}/cloudvmi.v1.GuestService/GetRegisters`;
    const headers = { "content-type": "application/json", authorization: `Bearer ${token}` };
    const request = https.request(url, { method: "POST", ca: harness.ca, headers, agent: false });
    request.end(JSON.stringify({ vm: { uuid: vm } }));
    const [response] = (await once(request, "response")) as [IncomingMessage];
    const body = Buffer.concat((await response.toArray()) as Buffer[]).toString();
    const { date: _, ...rest } = response.headers;
    return JSON.stringify([response.statusCode, rest, response.rawHeaders.filter((__, at) => at % 2 === 0), body]);
  };
  const [other, none] = [await ask(bank1), await ask(absent)];
  assert.match(none, /^\[404/);
  assert.equal(other.replaceAll(bank1, "VM"), none.replaceAll(absent, "VM"));
});

test("nothing of it reached the agent, and all of it is on the record", async () => {
  assert.deepEqual(harness.agent.seen, []);
  const { records } = await harness.admin.listAudit({ limit: 10_000 });
  const denied = records.filter(({ vmUuid, decision }) => vmUuid === bank1 && decision === "deny");
  assert.deepEqual([...new Set(denied.map(({ action }) => action))].sort(), [
    "list",
    "pause",
    "read",
    "registers",
    "resume",
    "scan",
    "stream",
    "symbols",
    "table",
    "translate",
  ]);
});

test("what does not exist is not found, also by who may see everything", async () => {
  await using own = await startHarness({
    prepare: async (directory) => {
      mkdirSync(path.join(directory, "policies"));
      const everything = 'permit (principal, action in CloudVMI::Action::"viewing", resource is CloudVMI::Vm);';
      writeFileSync(path.join(directory, "policies", "all.cedar"), everything);
    },
    policies: "policies",
  });
  const { vms, guest } = await own.as("nobody");
  assert.equal((await vms.getVm({ vm: bank1 })).vm?.name, "bank1");
  for (const vm of [absent, "bank9"]) {
    assert.equal((await failure(vms.getVm({ vm }))).code, Code.NotFound);
    assert.equal((await failure(guest.readTable({ vm: { uuid: vm }, table: "processes" }))).code, Code.NotFound);
  }
});

test("lists hold only what the caller may list, and an unknown project is like one of others", async () => {
  const clients = await harness.as("viewer");
  const uuids = async (project: string) => (await clients.vms.listVms({ project })).vms.map(({ id }) => id?.uuid);
  assert.deepEqual(await uuids(""), [web1]);
  assert.deepEqual(await uuids("shop"), [web1]);
  assert.deepEqual(await uuids("bank"), []);
  assert.deepEqual(await uuids("no-such-project"), []);
  assert.deepEqual((await (await harness.as("nobody")).vms.listVms({})).vms, []);
});

test("names are looked up among one's own VMs only", async () => {
  const twin = "00000000-0000-4000-8000-00000000aaa2";
  harness.agent.put({ uuid: twin, name: "bank1", project: "shop" });
  const clients = await harness.as("viewer");
  const found = async () => (await clients.vms.getVm({ vm: "bank1" })).vm?.id?.uuid;
  await until(async () => (await found().catch(() => undefined)) === twin);
  const banker = await harness.as("banker");
  assert.equal((await banker.vms.getVm({ vm: "bank1" })).vm?.id?.uuid, bank1);

  harness.agent.put({ uuid: web1, name: "bank1", project: "shop" });
  await until(async () => (await clients.vms.listVms({})).vms.every(({ name }) => name === "bank1"));
  const error = await failure(clients.vms.getVm({ vm: "bank1" }));
  assert.equal(error.code, Code.InvalidArgument);
  assert.match(error.rawMessage, /2 VMs are called "bank1": name one by its UUID/);
});
