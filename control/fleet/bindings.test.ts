import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { openState } from "../state/database.ts";
import type { State } from "../state/schema.ts";
import { openBindings } from "./bindings.ts";

async function withState(run: (state: State) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(path.join(tmpdir(), "cloudvmi-bindings-"));
  const state = await openState(directory);
  try {
    await run(state);
  } finally {
    await state.destroy();
    rmSync(directory, { recursive: true });
  }
}

const many = (from: number, count: number) => Array.from({ length: count }, (_, index) => `vm-${from + index}`);

test("a VM is its first agent's, over restarts, until it is moved or that agent is no more", async () => {
  await withState(async (state) => {
    const open = () => openBindings({ state, isNeeded: () => true });
    const first = await open();
    await first.claim("host1", many(0, 2500));
    await first.claim("host2", ["vm-0", "vm-9999"]);
    assert.equal(first.agentOf("vm-0"), "host1");
    assert.equal(first.agentOf("vm-9999"), "host2");

    const second = await open();
    assert.equal(second.agentOf("vm-2499"), "host1");
    assert.deepEqual([...second.agents()].sort(), ["host1", "host2"]);
    await second.move("vm-0", "host2");
    await assert.rejects(second.move("vm-none", "host2"), /no agent has ever announced a VM vm-none/);
    assert.deepEqual(new Set(await second.release("host1")), new Set(many(1, 2499)));

    const third = await open();
    assert.equal(third.agentOf("vm-0"), "host2");
    assert.equal(third.agentOf("vm-1"), undefined);
    assert.deepEqual(third.agents(), ["host2"]);
  });
});

test("two that open the same database agree on who was first", async () => {
  await withState(async (state) => {
    const [one, other] = await Promise.all([
      openBindings({ state, isNeeded: () => true }),
      openBindings({ state, isNeeded: () => true }),
    ]);
    await one.claim("host1", ["vm-1"]);
    await other.claim("host2", ["vm-1"]);
    assert.equal(other.agentOf("vm-1"), "host1");
  });
});

test("beyond its number an agent's oldest are forgotten, but those that are needed", async () => {
  await withState(async (state) => {
    const needed = new Set(["vm-1"]);
    const bindings = await openBindings({ state, isNeeded: (uuid) => needed.has(uuid), max: 3 });
    await bindings.claim("host2", ["vm-other"]);
    await bindings.claim("host1", many(0, 3));
    await bindings.claim("host1", many(3, 2));
    const kept = () => many(0, 7).filter((uuid) => bindings.agentOf(uuid) === "host1");
    assert.deepEqual(kept(), ["vm-1", "vm-3", "vm-4"]);
    assert.equal(bindings.agentOf("vm-other"), "host2");
    assert.equal((await openBindings({ state, isNeeded: () => true })).agentOf("vm-0"), undefined);
    // What it lists now is there, though it is not known yet that it is.
    needed.clear();
    await bindings.claim("host1", [...kept(), "vm-8"]);
    assert.deepEqual(kept(), ["vm-1", "vm-3", "vm-4"]);
    await bindings.claim("host1", ["vm-1", "vm-3", "vm-4"]);
    for (const uuid of many(0, 7)) needed.add(uuid);
    await bindings.claim("host1", many(5, 2));
    assert.deepEqual(kept(), ["vm-1", "vm-3", "vm-4", "vm-5", "vm-6"]);
  });
});
