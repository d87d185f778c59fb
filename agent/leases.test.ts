import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, mock, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { createLeases } from "./leases.ts";

const folder = mkdtempSync(join(tmpdir(), "cloudvmi-leases-"));
after(() => rmSync(folder, { recursive: true }));

function vm(name: string, status = "running") {
  const state = { status, log: [] as string[], fail: 0, failStop: 0, stopsLate: false };
  const note = join(folder, name);
  const leases = createLeases(
    {
      status: async () => state.status,
      stop: async () => {
        if (state.failStop-- > 0) {
          if (state.stopsLate) state.status = "paused";
          throw new Error("no answer");
        }
        state.log.push("stop");
        state.status = "paused";
      },
      cont: async () => {
        if (state.fail-- > 0) throw new Error("no monitor");
        state.log.push("cont");
        state.status = "running";
      },
    },
    note,
    (line) => state.log.push(line),
  );
  return { state, note, leases };
}

test("a VM runs when the last of several leases has ended", async () => {
  const { state, leases, note } = vm("several");
  const [first, second] = await Promise.all([leases.pause(30), leases.pause(30)]);
  assert.equal(state.status, "paused");
  assert.ok(existsSync(note));
  assert.equal(await leases.resume(first.lease), false);
  assert.equal(state.status, "paused");
  assert.equal(await leases.resume(second.lease), true);
  assert.deepEqual(state.log, ["stop", "cont"]);
  assert.equal(existsSync(note), false);
  await assert.rejects(
    leases.resume(second.lease),
    (error) => error instanceof ConnectError && error.code === Code.NotFound,
  );
});

test("a VM that was paused before stays paused", async () => {
  const { state, leases } = vm("operator", "paused");
  const { lease } = await leases.pause(30);
  assert.equal(await leases.resume(lease), false);
  assert.equal(state.status, "paused");
  assert.deepEqual(state.log, []);
});

test("a lease ends by itself, even when the monitor fails at first", async (t) => {
  mock.timers.enable({ apis: ["setTimeout"] });
  t.after(() => mock.timers.reset());
  const { state, leases } = vm("time");
  const settle = async () => {
    for (let i = 0; i < 20; i++) await Promise.resolve();
  };
  await leases.pause(10);
  state.fail = 1;
  mock.timers.tick(9999);
  await settle();
  assert.equal(state.status, "paused");
  mock.timers.tick(1);
  await settle();
  assert.match(state.log.at(-1)!, /trying again: no monitor/);
  mock.timers.tick(1000);
  await settle();
  assert.equal(state.status, "running");
});

test("an agent that comes back resumes what it had paused, and nothing else", async () => {
  const left = vm("left", "paused");
  writeFileSync(left.note, "");
  await left.leases.recover();
  assert.equal(left.state.status, "running");
  assert.equal(existsSync(left.note), false);
  const other = vm("other", "paused");
  await other.leases.recover();
  assert.equal(other.state.status, "paused");
});

test("an agent that stops ends every pause", async () => {
  const { state, leases } = vm("close");
  await leases.pause(300);
  await leases.close();
  assert.equal(state.status, "running");
});

test("a pause that failed is none: the next one stops the VM", async () => {
  const { state, leases, note } = vm("stop-fails");
  state.failStop = 1;
  await assert.rejects(leases.pause(30), /no answer/);
  const { lease } = await leases.pause(30);
  assert.equal(state.status, "paused");
  assert.ok(existsSync(note));
  assert.equal(await leases.resume(lease), true);
  assert.equal(existsSync(note), false);
});

test("a VM that stopped although QEMU did not say so in time runs again", async () => {
  const { state, leases, note } = vm("stop-late");
  state.failStop = 1;
  state.stopsLate = true;
  await assert.rejects(leases.pause(30), /no answer/);
  await leases.close();
  assert.equal(state.status, "running");
  assert.equal(existsSync(note), false);
});

test("a VM that its operator continued meanwhile is stopped again", async () => {
  const { state, leases } = vm("continued");
  const { lease: first } = await leases.pause(30);
  state.status = "running";
  const { lease: second } = await leases.pause(30);
  assert.equal(state.status, "paused");
  await leases.resume(first);
  assert.equal(await leases.resume(second), true);
  assert.deepEqual(state.log, ["stop", "stop", "cont"]);
});

test("a pause that is under way when the agent stops ends too, and there are no more", async () => {
  const { state, leases } = vm("closing");
  const underWay = leases.pause(300);
  await Promise.resolve();
  const queued = leases.pause(300);
  const closed = leases.close();
  await underWay;
  await assert.rejects(queued, (error) => error instanceof ConnectError && error.code === Code.Unavailable);
  await closed;
  assert.equal(state.status, "running");
  assert.deepEqual(state.log, ["stop", "cont"]);
});

test("a pause that can't be ended when the agent stops is told", async () => {
  const { state, leases } = vm("closing-fails");
  await leases.pause(300);
  state.fail = 1;
  await leases.close();
  assert.match(state.log.at(-1)!, /pause could not be ended.*no monitor/);
});
