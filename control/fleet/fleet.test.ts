import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import net from "node:net";
import path from "node:path";
import { test } from "node:test";
import tls from "node:tls";
import { Code } from "@connectrpc/connect";
import type { AuditRecord } from "../../proto/gen/cloudvmi/v1/admin_pb.ts";
import { ensureAuthority, issueCertificate, writeKeyPair } from "../certificates.ts";
import { startFakeAgent } from "../testing/fake-agent.ts";
import { absent, failure, startHarness, until, web1 } from "../testing/harness.ts";
import { parseAgentAddress, parseTlsAddress } from "./address.ts";

const moved = "00000000-0000-4000-8000-00000000eee1";

test("a UUID that two agents claim stays with the first until an operator moves it, and the later is told", async () => {
  await using harness = await startHarness();
  const impostor = { uuid: web1, incarnation: "9", name: "web1", project: "bank" };
  await using second = await startFakeAgent(path.join(harness.directory, "second.sock"), [
    impostor,
    { uuid: moved, name: "other", project: "bank" },
  ]);
  const added = await harness.admin.addAgent({ name: "host2", address: second.address });
  assert.equal(added.agent?.reachable, true);
  const agent = async (name: string) => (await harness.admin.listAgents({})).agents.find((each) => each.name === name);
  await until(async () => (await agent("host2"))?.reachable === true);
  const host2 = await agent("host2");
  assert.equal(host2?.vms, 1);
  assert.match(host2?.problem ?? "", /VM .*aaa1 is left out: agent host1 has it/);
  assert.deepEqual(host2?.warnings, ["no uid"]);
  assert.equal((await agent("host1"))?.problem, "");

  const viewer = await harness.as("viewer");
  const banker = await harness.as("banker");
  const read = async () => {
    for await (const _ of viewer.guest.readTable({ vm: { uuid: web1 }, table: "processes" }));
  };
  await read();
  assert.equal((await failure(banker.vms.getVm({ vm: web1 }))).code, Code.NotFound);
  assert.deepEqual(second.seen, []);

  // Not even while the first is away: an answer must never come from another VM.
  await harness.agent.stop();
  await until(async () => (await agent("host1"))?.reachable === false);
  assert.equal((await failure(read())).code, Code.Unavailable);
  assert.deepEqual(second.seen, []);

  // Nor when the first is back without it: so it is at each restart of the VM.
  harness.agent.remove(web1);
  await harness.agent.start();
  await until(async () => (await agent("host1"))?.reachable === true);
  assert.equal((await failure(read())).code, Code.NotFound);
  assert.deepEqual((await harness.admin.listAudit({ limit: 1000 })).records.filter(isClaim).map(claimOf), [
    `deny ${web1} agent host1 has it {"agent":"host2"}`,
  ]);
  assert.equal(harness.log.filter((line) => line.includes("VM refused")).length, 1);

  await harness.admin.moveVm({ vmUuid: web1, agent: "host2" });
  assert.equal((await banker.vms.getVm({ vm: web1 })).vm?.host, "host2");
  assert.equal((await agent("host2"))?.problem, "");
  harness.agent.put({ uuid: web1, name: "web1", project: "shop" });
  await until(async () => /agent host2 has it/.test((await agent("host1"))?.problem ?? ""));
  assert.equal((await failure(read())).code, Code.NotFound);
});

const isClaim = ({ action }: AuditRecord) => action === "claim";
const claimOf = ({ decision, vmUuid, reason, detail }: AuditRecord) => `${decision} ${vmUuid} ${reason} ${detail}`;

test("an owner that an operator has set is no gift to who takes the UUID up, also over a restart", async () => {
  await using harness = await startHarness();
  await harness.admin.setOwner({ vmUuid: web1, project: "shop" });
  await using evil = await startFakeAgent(path.join(harness.directory, "evil.sock"), [
    { uuid: web1, incarnation: "666", name: "web1" },
  ]);
  await harness.admin.addAgent({ name: "evilhost", address: evil.address });
  harness.agent.remove(web1);
  await harness.agent.stop();
  await harness.restart();
  const evilhost = async () => (await harness.admin.listAgents({})).agents.find(({ name }) => name === "evilhost");
  await until(async () => (await evilhost())?.reachable === true);
  const { guest } = await harness.as("analyst");
  const ask = () => guest.readMemory({ vm: { uuid: web1 }, items: [{ length: 4 }] });
  assert.equal((await failure(ask())).code, Code.NotFound);
  harness.agent.put({ uuid: web1, incarnation: "2", name: "web1", project: "shop" });
  await harness.agent.start();
  await until(() =>
    ask().then(
      () => true,
      () => false,
    ),
  );
  assert.equal((await ask()).vm?.incarnation, "2");
  assert.deepEqual(evil.seen, []);
});

test("a VM of an agent that is removed is the next one's that announces it, and not before", async () => {
  await using harness = await startHarness();
  const second = await startFakeAgent(path.join(harness.directory, "second.sock"), [
    { uuid: moved, name: "web2", project: "shop" },
  ]);
  await using third = await startFakeAgent(path.join(harness.directory, "third.sock"), [
    { uuid: moved, name: "web2", project: "shop" },
  ]);
  await harness.admin.addAgent({ name: "host2", address: second.address });
  await harness.admin.addAgent({ name: "host3", address: third.address });
  const host = async () => (await harness.admin.listAllVms({})).vms.find(({ id }) => id?.uuid === moved)?.host;
  await until(async () => (await host()) === "host2");
  await second.stop();
  assert.equal(await host(), "host2");
  await harness.admin.removeAgent({ name: "host2" });
  assert.equal(await host(), "host3");
  const refused: [() => Promise<unknown>, Code, RegExp][] = [
    [() => harness.admin.moveVm({ vmUuid: moved, agent: "host9" }), Code.NotFound, /no agent "host9"/],
    [() => harness.admin.moveVm({ vmUuid: absent, agent: "host1" }), Code.NotFound, /no agent has ever announced/],
    [() => harness.admin.moveVm({ vmUuid: "web2", agent: "host1" }), Code.InvalidArgument, /is no UUID of a VM/],
  ];
  for (const [call, code, says] of refused) {
    const error = await failure(call());
    assert.equal(error.code, code);
    assert.match(error.rawMessage, says);
  }
});

test("an agent that has or says too much is heard as far as it may be, and hinders nobody", async () => {
  await using harness = await startHarness();
  const made = (index: number) => ({
    uuid: `00000000-0000-4000-8000-${String(index).padStart(12, "0")}`,
    name: `made${index}`,
    project: "shop",
  });
  await using second = await startFakeAgent(
    path.join(harness.directory, "second.sock"),
    Array.from({ length: 4100 }, (_, index) => made(index)),
  );
  await harness.admin.addAgent({ name: "host2", address: second.address });
  const host2 = async () => (await harness.admin.listAgents({})).agents.find(({ name }) => name === "host2");
  await until(async () => (await host2())?.reachable === true);
  assert.equal((await host2())?.vms, 4096);
  assert.match((await host2())?.problem ?? "", /VMs are left out: an agent may have 4096/);
  second.put(made(9000));
  second.put({ ...made(5), labels: { big: "x".repeat(20_000) } });
  second.put({ ...made(5), name: "changed" });
  const names = async () => (await harness.admin.listAllVms({})).vms.map(({ name }) => name);
  await until(async () => (await names()).includes("changed"));
  assert.equal((await names()).includes("made9000"), false);
  assert.equal(harness.log.filter((line) => line.includes("VMs left out")).length, 1);
});

test("VMs come and go as their agent says", async () => {
  await using harness = await startHarness();
  const viewer = await harness.as("viewer");
  const names = async () => (await viewer.vms.listVms({})).vms.map(({ name }) => name).join();
  harness.agent.put({ uuid: moved, name: "web2", project: "shop" });
  await until(async () => (await names()) === "web1,web2");
  harness.agent.remove(moved);
  await until(async () => (await names()) === "web1");
  harness.agent.put({ uuid: "no-uuid", name: "odd", project: "shop" });
  await until(async () => (await harness.admin.listAgents({})).agents[0]?.problem.includes("no usable UUID") === true);
  assert.equal(await names(), "web1");
});

test("agents are added and removed while it runs, and kept over a restart", async () => {
  await using harness = await startHarness();
  await using second = await startFakeAgent(path.join(harness.directory, "second.sock"), [
    { uuid: moved, name: "web2", project: "shop" },
  ]);
  await harness.admin.addAgent({ name: "host2", address: second.address });
  await harness.restart();
  const names = async () => (await harness.admin.listAllVms({})).vms.map(({ name }) => name);
  await until(async () => (await names()).includes("web2"));
  await harness.admin.removeAgent({ name: "host2" });
  assert.equal((await names()).includes("web2"), false);

  const refused: [() => Promise<unknown>, RegExp][] = [
    [() => harness.admin.addAgent({ name: "host1", address: second.address }), /agent host1 exists already/],
    [() => harness.admin.addAgent({ name: "host3", address: "host3:7444" }), /is no address of an agent: use unix:/],
    [() => harness.admin.addAgent({ name: "host 3", address: second.address }), /no name for an agent/],
    [() => harness.admin.removeAgent({ name: "host1" }), /agent host1 is in the configuration/],
    [() => harness.admin.removeAgent({ name: "host9" }), /no agent "host9"/],
  ];
  for (const [call, says] of refused) assert.match((await failure(call())).rawMessage, says);
});

test("an agent at tls:// is reached with both ends proved, and by nobody else's certificates", async () => {
  await using harness = await startHarness({
    more: `[agent_tls]\nca = "pki/ca.pem"\ncertificate = "pki/control.pem"\nkey = "pki/control.key"\n`,
    prepare: async (directory) => {
      const pki = path.join(directory, "pki");
      const authority = await ensureAuthority(pki, "ca", "test");
      writeKeyPair(pki, "control", await issueCertificate(authority, { name: "control", usage: "client", hosts: [] }));
      const agentPair = await issueCertificate(authority, { name: "agent", usage: "server", hosts: ["127.0.0.1"] });
      writeKeyPair(pki, "agent", agentPair);
      const stranger = await ensureAuthority(path.join(directory, "stranger"), "ca", "test");
      const strangers = await issueCertificate(stranger, { name: "agent", usage: "server", hosts: ["127.0.0.1"] });
      writeKeyPair(path.join(directory, "stranger"), "agent", strangers);
    },
  });
  const pki = path.join(harness.directory, "pki");
  const socket = path.join(harness.directory, "second.sock");
  await using second = await startFakeAgent(socket, [{ uuid: moved, name: "web2", project: "shop" }]);
  const read = (file: string) => readFileSync(file, "utf8");

  /** The agent's socket behind mutual TLS. */
  const serve = async (directory: string) => {
    const options = {
      ca: read(path.join(pki, "ca.pem")),
      cert: read(path.join(directory, "agent.pem")),
      key: read(path.join(directory, "agent.key")),
      requestCert: true,
      ALPNProtocols: ["cloudvmi/1"],
    };
    const server = tls.createServer(options, (client) => {
      const inner = net.connect(socket);
      client.pipe(inner).pipe(client);
      client.on("error", () => inner.destroy());
      inner.on("error", () => client.destroy());
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return { address: `tls://127.0.0.1:${(server.address() as AddressInfo).port}`, close: () => server.close() };
  };

  const good = await serve(pki);
  const bad = await serve(path.join(harness.directory, "stranger"));
  try {
    await harness.admin.addAgent({ name: "bad", address: bad.address });
    await harness.admin.addAgent({ name: "good", address: good.address });
    const agent = async (name: string) =>
      (await harness.admin.listAgents({})).agents.find((each) => each.name === name);
    await until(async () => (await agent("good"))?.reachable === true);
    await until(async () => /certificate|self.signed/i.test((await agent("bad"))?.problem ?? ""));
    assert.equal((await agent("bad"))?.reachable, false);
    await (await harness.as("analyst")).guest.translate({ vm: { uuid: "web2" } });
    assert.deepEqual(second.seen, [`translate ${moved}/1`]);
    await harness.admin.removeAgent({ name: "good" });
  } finally {
    good.close();
    bad.close();
  }
});

test("addresses", () => {
  assert.deepEqual(parseAgentAddress("unix:/run/a.sock"), { kind: "unix", path: "/run/a.sock" });
  assert.deepEqual(parseAgentAddress("tls://host-1.example:7444"), { kind: "tls", host: "host-1.example", port: 7444 });
  assert.deepEqual(parseTlsAddress("tls://[::1]:0"), { host: "::1", port: 0 });
  for (const text of [
    "",
    "unix:",
    "unix:a",
    "host:1",
    "tls://host",
    "tls://host:99999",
    "tls://host:0",
    "https://h:1",
  ]) {
    assert.equal(parseAgentAddress(text), undefined, text);
  }
});
