// An agent over real guests: VMs that come and go, identity, questions, pauses, streams, restarts.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { openLocal, parseAgentConfig, type RunningAgent, startAgent } from "../../agent/index.ts";
import { bootGuest, type LabGuest, launchGuest } from "../../lab/index.ts";
import { AgentService } from "../../proto/gen/cloudvmi/agent/v1/agent_pb.ts";
import { GuestService, type StreamMemoryResponse } from "../../proto/gen/cloudvmi/v1/guest_pb.ts";
import { type Vm, VmStatus } from "../../proto/gen/cloudvmi/v1/vm_pb.ts";
import { createWireTransport, type WireTransport } from "../../wire/index.ts";

const folder = mkdtempSync(join(tmpdir(), "cloudvmi-agent-"));
const log: string[] = [];
let web: LabGuest;
let db: LabGuest;
let agent: RunningAgent;
let fleet: Fleet;
let configuration: string;

async function open(): Promise<void> {
  configuration = `name = "host1"
listen = "unix:${folder}/agent.sock"
state = "${folder}/state"
[[vm]]
uuid = "${web.uuid}"
project = "shop"
labels = { tier = "web" }
`;
  agent = await startAgent(parseAgentConfig(configuration, "agent.toml"), { log: (line) => log.push(line) });
  fleet = new Fleet();
}

/** What a control plane does: watches an agent, and asks it. */
class Fleet {
  readonly vms = new Map<string, Vm>();
  readonly gone: string[] = [];
  readonly guests: Client<typeof GuestService>;
  readonly agent: Client<typeof AgentService>;
  readonly transport: WireTransport;
  readonly #watching: Promise<void>;

  constructor() {
    this.transport = createWireTransport({ connect: () => connect(join(folder, "agent.sock")) });
    this.guests = createClient(GuestService, this.transport);
    this.agent = createClient(AgentService, this.transport);
    this.#watching = this.#watch().catch(() => {});
  }

  async #watch(): Promise<void> {
    for await (const { present, gone } of this.agent.watchVms({})) {
      for (const { incarnation } of gone) this.gone.push(incarnation);
      for (const { uuid } of gone) this.vms.delete(uuid);
      for (const vm of present) this.vms.set(vm.id!.uuid, vm);
    }
  }

  async vm(guest: LabGuest): Promise<Vm> {
    await until(() => this.vms.has(guest.uuid), `the agent does not see ${guest.name}`);
    return this.vms.get(guest.uuid)!;
  }

  async close(): Promise<void> {
    await this.transport.close();
    await this.#watching;
  }
}

before(async () => {
  [web, db] = await Promise.all([
    bootGuest({ kernel: "6.12", name: "web1", ram: "memfd", vcpus: 2 }),
    bootGuest({ kernel: "6.1", name: "db1", ram: "anonymous" }),
  ]);
  await open();
});
after(async () => {
  await fleet?.close();
  await agent?.close();
  await Promise.all([web?.close(), db?.close()]);
  rmSync(folder, { recursive: true, force: true });
});

function failsWith(code: Code, text: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof ConnectError, String(error));
    assert.equal(Code[error.code], Code[code], error.message);
    assert.match(error.rawMessage, text);
    assert.ok(!error.rawMessage.includes("\n"));
    return true;
  };
}

async function names(guests: Client<typeof GuestService>, vm: Vm["id"]): Promise<string[]> {
  const result: string[] = [];
  for await (const batch of guests.readTable({ vm, table: "processes", columns: ["name"] })) {
    result.push(...batch.columns.flatMap(({ texts }) => texts.map((text) => Buffer.from(text).toString())));
  }
  return result;
}

test("finds the VMs of its host by itself, with what their operator says of them", async () => {
  const found = await fleet.vm(web);
  assert.equal(found.name, "web1");
  assert.equal(found.project, "shop");
  assert.deepEqual(found.labels, { tier: "web" });
  assert.equal(found.host, "host1");
  assert.equal(found.status, VmStatus.RUNNING);
  assert.equal(found.vcpus, 2);
  assert.equal(found.memoryBytes, BigInt(web.spec.memoryMiB) << 20n);
  assert.equal(found.architecture, "x86_64");
  assert.match(found.hypervisor, /^qemu-(?:tcg|kvm)$/);
  assert.match(found.id!.incarnation, new RegExp(`^[0-9a-f]{8}-${web.pid}-\\d+$`));
  assert.equal((await fleet.vm(db)).project, "");
});

test("says what it offers", async () => {
  const { host, tables, warnings, version } = await fleet.agent.describe({});
  assert.equal(host, "host1");
  assert.ok(
    tables.some(({ name, columns }) => name === "processes" && columns.some((column) => column.name === "pid")),
  );
  assert.deepEqual(warnings, []);
  assert.match(version, /^\d+\.\d+\.\d+$/);
});

test("reads the processes of every VM, shared RAM or not", async () => {
  for (const guest of [web, db]) {
    const { id } = await fleet.vm(guest);
    const read = await names(fleet.guests, id);
    assert.ok(read.includes("init"), `${guest.name}: ${read.join()}`);
    assert.ok(read.includes("kthreadd"));
    let last: string | undefined;
    for await (const { summary } of fleet.guests.readTable({ vm: id, table: "kernel_info" })) {
      last = summary?.vm?.incarnation ?? last;
    }
    assert.equal(last, id!.incarnation);
  }
});

test("only the incarnation that is named is answered", async () => {
  const { id } = await fleet.vm(web);
  const ask = (uuid: string, incarnation: string) => fleet.guests.getRegisters({ vm: { uuid, incarnation } });
  assert.equal((await ask(id!.uuid, id!.incarnation)).vcpus.length, 2);
  await assert.rejects(ask(id!.uuid, "00000000-1-1"), failsWith(Code.Aborted, /restarted since/));
  await assert.rejects(ask(id!.uuid, ""), failsWith(Code.InvalidArgument, /incarnation/));
  await assert.rejects(ask(db.uuid.replace(/^./, "x"), id!.incarnation), failsWith(Code.NotFound, /does not run/));
});

test("a wrong question is the caller's mistake, in one line", async () => {
  const { id } = await fleet.vm(web);
  const read = async (question: Parameters<typeof fleet.guests.readTable>[0]) => {
    for await (const _ of fleet.guests.readTable({ vm: id, ...question }));
  };
  await assert.rejects(read({ table: "nope" }), failsWith(Code.InvalidArgument, /no table 'nope'.*processes/));
  await assert.rejects(
    read({ table: "processes", columns: ["nope"] }),
    failsWith(Code.InvalidArgument, /no column 'nope'/),
  );
  await assert.rejects(
    fleet.guests.readMemory({ vm: id, items: [{ address: 0n, length: 1 }] }),
    failsWith(Code.InvalidArgument, /address space/),
  );
});

test("memory is read and streamed as it is", async () => {
  for (const guest of [web, db]) {
    const { id } = await fleet.vm(guest);
    const { lease } = await fleet.guests.pause({ vm: id, leaseSeconds: 60 });
    const hash = createHash("sha256");
    const pages = new Map<bigint, Buffer>();
    let at = 0n;
    let sent = 0;
    for await (const { address, data, zeros, absent } of fleet.guests.streamMemory({
      vm: id,
      start: 0x1000n,
      length: 64n << 20n,
    })) {
      assert.equal(address, at === 0n ? 0x1000n : at);
      at = address + BigInt(data.length) + zeros + absent;
      sent += data.length;
      hash.update(data);
      if (data.length >= 4096) pages.set(address, Buffer.from(data.subarray(0, 4096)));
    }
    assert.equal(at, 0x1000n + (64n << 20n));
    assert.ok(sent > 1 << 20 && sent < 64 << 20, `${sent} bytes were sent`);
    const items = [...pages.keys()].slice(0, 50).map((address) => ({
      space: { space: { case: "physical" as const, value: true } },
      address,
      length: 4096,
    }));
    const { results } = await fleet.guests.readMemory({ vm: id, items });
    for (const { address, data } of results) assert.ok(pages.get(address)!.equals(data), `0x${address.toString(16)}`);
    await fleet.guests.resume({ vm: id, lease });
  }
});

test("a stream ends at the end of RAM, and may begin nowhere behind it", async () => {
  const { id, memoryBytes } = await fleet.vm(web);
  let end = 0n;
  const start = memoryBytes - 4096n;
  for await (const { address, data, zeros, absent } of fleet.guests.streamMemory({ vm: id, start, length: 16384n })) {
    end = address + BigInt(data.length) + zeros + absent;
  }
  assert.equal(end, start + 16384n);
  const behind = async () => {
    for await (const _ of fleet.guests.streamMemory({ vm: id, start: memoryBytes }));
  };
  await assert.rejects(behind, failsWith(Code.InvalidArgument, /past the end of RAM/));
});

test("a pause shows, is counted, and ends", async () => {
  const vm = await fleet.vm(web);
  const status = (wanted: VmStatus) => until(() => fleet.vms.get(web.uuid)?.status === wanted, `status ${wanted}`);
  const first = await fleet.guests.pause({ vm: vm.id, leaseSeconds: 300 });
  const second = await fleet.guests.pause({ vm: vm.id, leaseSeconds: 1 });
  await status(VmStatus.PAUSED);
  assert.ok((await names(fleet.guests, vm.id)).includes("init"), "a paused VM is read too");
  assert.equal((await fleet.guests.resume({ vm: vm.id, lease: first.lease })).running, false);
  // The second is left to its time.
  await status(VmStatus.RUNNING);
  await assert.rejects(fleet.guests.resume({ vm: vm.id, lease: second.lease }), failsWith(Code.NotFound, /has ended/));
  await assert.rejects(
    fleet.guests.pause({ vm: vm.id, leaseSeconds: 301 }),
    failsWith(Code.InvalidArgument, /at most 300/),
  );
});

test("a guest that reboots is another kernel in the same VM", async () => {
  const { id } = await fleet.vm(web);
  const boot = async () => {
    for await (const { header, columns } of fleet.guests.readTable({ vm: id, table: "kernel_info" })) {
      return header
        .map(({ name }, i) => `${name}=${columns[i]!.integers[0] ?? Buffer.from(columns[i]!.texts[0]!)}`)
        .join();
    }
    return "";
  };
  const earlier = await boot();
  // While it is down there is nothing to understand, and that is said so.
  const refusals: ConnectError[] = [];
  let up = false;
  const rebooting = web.reboot().finally(() => {
    up = true;
  });
  while (!up) {
    await boot().catch((error: ConnectError) => refusals.push(error));
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  await rebooting;
  assert.ok(refusals.length > 0, "the guest was understood all the while");
  for (const error of refusals) assert.equal(Code[error.code], Code[Code.FailedPrecondition], error.message);
  let later = "";
  await until(async () => {
    later = await boot().catch(() => "");
    return later !== "" && later !== earlier;
  }, "the new kernel is not found");
  assert.equal((await fleet.vm(web)).id!.incarnation, id!.incarnation);
});

test("a VM that ends is gone at once, and one that comes is found", async () => {
  await using late = await launchGuest({ kernel: "6.1", name: "late1" });
  const { id } = await fleet.vm(late);
  await late.close();
  await until(() => fleet.gone.includes(id!.incarnation), "the end of late1 goes unnoticed");
  await assert.rejects(fleet.guests.getRegisters({ vm: id }), failsWith(Code.NotFound, /does not run/));
  assert.ok((await names(fleet.guests, (await fleet.vm(web)).id)).length > 5, "the others are read on");
});

test("an agent that was killed resumes what it had paused when it is back", async () => {
  await fleet.close();
  await agent.close();
  const file = join(folder, "agent.toml");
  writeFileSync(file, configuration);
  const victim = spawn(process.execPath, [join(import.meta.dirname, "programs/agent.ts"), file], { stdio: "ignore" });
  await until(() => existsSync(join(folder, "agent.sock")), "the agent does not listen");
  fleet = new Fleet();
  const { id } = await fleet.vm(web);
  await names(fleet.guests, id);
  await fleet.guests.pause({ vm: id, leaseSeconds: 300 });
  const family = descendants(victim.pid!);
  assert.ok(family.length > 1, "no inspector runs");
  victim.kill("SIGKILL");
  await once(victim, "exit");
  await fleet.close();
  await until(() => family.every((pid) => !existsSync(`/proc/${pid}`)), "inspectors outlive their agent");
  const status = async () => (await web.monitor("query-status")) as { status: string };
  assert.equal((await status()).status, "paused");
  await open();
  await until(async () => (await status()).status === "running", "web1 is still paused");
  await until(() => fleet.vms.get(web.uuid)?.status === VmStatus.RUNNING, "web1 is shown as paused");
});

test("without a service: the same guest by its monitor, by its process, and from an image of its memory", async () => {
  await fleet.close();
  await agent.close();
  const read = async (target: Parameters<typeof openLocal>[0]) => {
    const local = await openLocal(target);
    try {
      return await names(createClient(GuestService, local.transport), undefined);
    } finally {
      await local.close();
    }
  };
  for (const guest of [web, db]) {
    assert.ok((await read({ qmp: guest.qmp })).includes("kthreadd"));
    assert.ok((await read({ pid: guest.pid })).includes("kthreadd"));
  }
  const memory = join(folder, "db1.raw");
  await db.monitor("pmemsave", { val: 0, size: db.spec.memoryMiB << 20, filename: memory });
  assert.ok((await read({ memory })).includes("kthreadd"));
  assert.equal(await streamedDigest({ memory }), createHash("sha256").update(readFileSync(memory)).digest("hex"));
  truncateSync(memory, (64 << 20) + 1);
  await assert.rejects(openLocal({ memory }), /not a whole number of 4096-byte pages: truncated/);
  await open();
});

/** SHA-256 of all that a stream of a guest's memory tells, which is held for a while before it is looked at. */
async function streamedDigest(target: Parameters<typeof openLocal>[0]): Promise<string> {
  const local = await openLocal(target);
  try {
    const hash = createHash("sha256");
    const held: StreamMemoryResponse[] = [];
    const look = (piece: StreamMemoryResponse) =>
      hash.update(piece.data.length > 0 ? piece.data : Buffer.alloc(Number(piece.zeros)));
    for await (const piece of createClient(GuestService, local.transport).streamMemory({})) {
      if (held.push(piece) > 8) look(held.shift()!);
    }
    held.forEach(look);
    return hash.digest("hex");
  } finally {
    await local.close();
  }
}

function descendants(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1")
    .trim()
    .split(" ")
    .filter(Boolean)
    .map(Number);
  return children.flatMap((child) => [child, ...descendants(child)]);
}

async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (let i = 0; i < 600; i++) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.fail(`not within 30 s: ${what}; the agent's log: ${log.join(" / ")}`);
}
