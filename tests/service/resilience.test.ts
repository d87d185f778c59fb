// What breaks stays where it broke: inspectors that die or hang, agents and VMs that come and go, leases that run out.
import assert from "node:assert/strict";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, describe, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { type Cluster, startCluster } from "../../demo/cluster.ts";
import type { LabGuest } from "../../lab/index.ts";
import { assertOneLine, descendants, eventually, json, topology } from "./support.ts";

let cluster: Cluster;
before(async () => {
  cluster = await startCluster(topology, (line) => console.log(line));
});
after(() => cluster?.[Symbol.asyncDispose]());

const guest = (name: string) => cluster.guests.get(name)!;
const ps = (user: string, vm: string) => json<{ pid: number }[]>(cluster, user, ["ps", vm]);
const incarnation = async (vm: string) => {
  const vms = await json<{ name: string; incarnation: string }[]>(cluster, "alice", ["vms"]);
  return vms.find(({ name }) => name === vm)?.incarnation;
};
const qemuStatus = async (name: string) => ((await guest(name).monitor("query-status")) as { status: string }).status;
const inspectors = () => descendants(cluster.processes.get("agent host1")!.pid, /inspector/);

describe("inspectors", () => {
  test("killed in the middle of the work: the same VM answers again, others never notice", async () => {
    await Promise.all([ps("alice", "web1"), ps("bob", "ledger")]);
    const victims = inspectors();
    assert.ok(victims.length > 0, "inspectors are processes of their own below their agent");
    let busy = true;
    const others = (async () => {
      for (let answers = 0; ; answers++) {
        assert.ok((await ps("alice", "db1")).length > 10);
        if (!busy) return answers;
      }
    })();
    for (const pid of victims) process.kill(pid, "SIGKILL");
    const again = await eventually(20, () => Promise.all([ps("alice", "web1"), ps("bob", "ledger")]));
    busy = false;
    for (const rows of again) assert.ok(rows.length > 10);
    await others;
    assert.ok(
      inspectors().every((pid) => !victims.includes(pid)),
      "new ones",
    );
  });

  test("hanging: the caller is told within its deadline, others are served meanwhile, and it is replaced", async () => {
    await Promise.all([ps("alice", "web1"), ps("bob", "ledger")]);
    const victims = inspectors();
    for (const pid of victims) process.kill(pid, "SIGSTOP");
    try {
      const stuck = Promise.all([cluster.cli("alice", ["ps", "web1"]), cluster.cli("bob", ["ps", "ledger"])]);
      assert.ok((await ps("alice", "db1")).length > 10, "another host answers meanwhile");
      for (const result of await stuck) {
        if (result.code !== 0) assertOneLine(result, 1, /./, "ps of a VM whose inspector hangs");
      }
      await eventually(60, () => Promise.all([ps("alice", "web1"), ps("bob", "ledger")]));
    } finally {
      for (const pid of descendants(cluster.processes.get("agent host1")!.pid, /inspector/))
        if (victims.includes(pid)) process.kill(pid, "SIGKILL");
    }
  });
});

describe("VMs", () => {
  test("one that reboots answers again, as the same incarnation and of its new boot", async () => {
    const info = () => json<{ uptime: number }>(cluster, "alice", ["info", "web1"]);
    const [before, id] = [await info(), await incarnation("web1")];
    const { bootId } = await guest("web1").truth();
    await guest("web1").reset();
    const truth = await guest("web1").truth();
    assert.notEqual(truth.bootId, bootId);
    await eventually(60, async () => {
      const seen = new Set((await ps("alice", "web1")).map(({ pid }) => pid));
      for (const { pid, cmdline } of truth.processes.values()) if (cmdline.includes("/lab/")) assert.ok(seen.has(pid));
      assert.ok((await info()).uptime !== before.uptime);
    });
    assert.equal(await incarnation("web1"), id);
  });

  test("one that boots has one clear answer and harms nobody", async () => {
    await guest("web1").monitor("system_reset");
    try {
      for (let asked = 0; asked < 5; asked++) {
        const result = await cluster.cli("alice", ["ps", "web1"]);
        // The kernel may be up already, or still be the old one for a moment.
        if (result.code !== 0) assertOneLine(result, 4, /./, "ps of a VM that boots");
        assert.ok((await ps("alice", "db1")).length > 10);
      }
    } finally {
      await guest("web1").awaitReboot();
    }
    assert.ok((await eventually(60, () => ps("alice", "web1"))).length > 10);
  });

  test("one that is started anew has another incarnation, and a request that names the old one is refused", async () => {
    await using bob = cluster.connect("bob");
    const old = await bob.vm("ledger");
    assert.notEqual(old.id.incarnation, "");
    await cluster.reboot("ledger");
    const now = await eventually(60, async () => {
      const [vm] = await json<{ incarnation: string; uuid: string }[]>(cluster, "bob", ["vms"]);
      assert.ok(vm && vm.incarnation !== old.id.incarnation);
      assert.ok((await ps("bob", "ledger")).length > 10);
      return vm;
    });
    assert.equal(now.uuid, old.id.uuid);
    await assert.rejects(old.registers(), (error) => error instanceof ConnectError && error.code === Code.Aborted);
  });

  test("one that has ended is gone from the list, and the others are there", async () => {
    const ended = guest("db1");
    await ended.close();
    await eventually(60, async () => {
      const names = (await json<{ name: string }[]>(cluster, "alice", ["vms"])).map(({ name }) => name);
      assert.deepEqual(names, ["web1"]);
    });
    assertOneLine(await cluster.cli("alice", ["ps", "db1"]), 3, /db1/, "ps of a VM that has ended");
    assert.ok((await ps("alice", "web1")).length > 10);
    await cluster.reboot("db1");
    assert.ok((await eventually(60, () => ps("alice", "db1"))).length > 10);
  });
});

describe("agents", () => {
  test("one that is away: its VMs are said to be out of reach, the others answer; back again, the VMs are the same", async () => {
    const before = await incarnation("web1");
    const agent = cluster.processes.get("agent host1")!;
    await agent.stop();
    assertOneLine(
      await eventually(20, async () => {
        const result = await cluster.cli("alice", ["ps", "web1"]);
        assert.equal(result.code, 1, result.stderr);
        return result;
      }),
      1,
      /web1|host1/,
      "ps of a VM whose agent is away",
    );
    assert.ok((await ps("alice", "db1")).length > 10);
    const both = await cluster.cli("alice", ["ps", "--json"]);
    assert.equal(both.code, 1, "a part of the fleet is missing");
    assert.ok(JSON.parse(both.stdout).every((row: { vm: string }) => row.vm === "db1"));
    await cluster.restart("agent host1");
    assert.ok((await eventually(60, () => ps("alice", "web1"))).length > 10);
    assert.equal(await incarnation("web1"), before);
  });

  test("control restarts: tokens, owners and the audit trail are as before", async () => {
    await cluster.restart("control");
    assert.ok((await eventually(60, () => ps("alice", "web1"))).length > 10);
    assert.equal((await cluster.cli("operator", ["admin", "audit", "verify"])).code, 0);
  });
});

describe("pauses", () => {
  test("a VM stands still until it is resumed", async () => {
    const { lease } = await json<{ lease: string }>(cluster, "alice", ["pause", "web1", "--seconds", "60"]);
    assert.equal(await qemuStatus("web1"), "paused");
    assert.ok((await ps("alice", "web1")).length > 10, "it can be read while it stands");
    await json(cluster, "alice", ["resume", "web1", "--lease", lease]);
    assert.equal(await qemuStatus("web1"), "running");
  });

  test("it runs on by itself when the lease ends", async () => {
    await json(cluster, "alice", ["pause", "web1", "--seconds", "2"]);
    assert.equal(await qemuStatus("web1"), "paused");
    await eventually(10, async () => assert.equal(await qemuStatus("web1"), "running"));
  });

  test("two leases: it runs on after the last", async () => {
    const first = await json<{ lease: string }>(cluster, "alice", ["pause", "web1", "--seconds", "60"]);
    const second = await json<{ lease: string }>(cluster, "alice", ["pause", "web1", "--seconds", "60"]);
    await json(cluster, "alice", ["resume", "web1", "--lease", first.lease]);
    assert.equal(await qemuStatus("web1"), "paused");
    await json(cluster, "alice", ["resume", "web1", "--lease", second.lease]);
    assert.equal(await qemuStatus("web1"), "running");
  });

  test("an agent that is killed while it holds a lease leaves no VM stopped", async () => {
    await json(cluster, "alice", ["pause", "web1", "--seconds", "3"]);
    process.kill(cluster.processes.get("agent host1")!.pid, "SIGKILL");
    await cluster.restart("agent host1");
    await eventually(20, async () => assert.equal(await qemuStatus("web1"), "running"));
    assert.ok((await eventually(60, () => ps("alice", "web1"))).length > 10);
  });
});

describe("the audit trail", () => {
  const database = () => new DatabaseSync(join(cluster.directory, "control/audit.db"));

  test("every decision is on it, without what was read", async () => {
    await ps("alice", "web1");
    await cluster.cli("alice", ["ps", "ledger"]);
    const records = await json(cluster, "operator", ["admin", "audit", "--limit", "20"]);
    const of = (decision: string, vm: LabGuest) =>
      records.filter((row) => row.user === "alice" && row.decision === decision && row.vm === vm.uuid);
    assert.ok(of("allow", guest("web1")).length > 0);
    assert.ok(JSON.stringify(records.filter((row) => row.decision === "deny")).includes("ledger"));
    assert.ok(!JSON.stringify(records).includes(cluster.token("alice")));
  });

  test("a row that is altered or removed in the database shows, and where", async () => {
    const verify = async () =>
      JSON.parse((await cluster.cli("operator", ["admin", "audit", "verify", "--json"])).stdout);
    assert.equal((await verify()).intact, true);
    using db = database();
    const row = db.prepare("SELECT * FROM audit WHERE user_name = 'alice' ORDER BY sequence LIMIT 1").get()!;
    const change = (user: unknown) =>
      db.prepare("UPDATE audit SET user_name = ? WHERE sequence = ?").run(String(user), Number(row.sequence));
    change("bob");
    const altered = await verify();
    assert.equal(altered.intact, false);
    assert.equal(Number(altered.broken_at), row.sequence);
    change("alice");
    assert.equal((await verify()).intact, true);
    db.prepare("DELETE FROM audit WHERE sequence = ?").run(Number(row.sequence));
    const removed = await verify();
    assert.equal(removed.intact, false);
    assert.ok(Math.abs(Number(removed.broken_at) - Number(row.sequence)) <= 1);
  });
});
