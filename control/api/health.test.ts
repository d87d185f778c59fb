import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";
import { sql } from "kysely";
import { openAuditStore, openState } from "../state/database.ts";
import { failure, startHarness } from "../testing/harness.ts";

test("a service that can't write its trail, or read its database, is not ready until it can again", async () => {
  await using harness = await startHarness();
  const { health } = harness.clients("");
  const viewer = await harness.as("viewer");
  const { ready, agents, agentsReachable } = await health.check({});
  assert.deepEqual([ready, agents, agentsReachable], [true, 1, 1]);

  const directory = path.join(harness.directory, "state");
  const trail = await openAuditStore(directory);
  const full = "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(FAIL, 'disk full'); END";
  await sql.raw(full).execute(trail);
  await failure(viewer.vms.listVms({}));
  assert.equal((await health.check({})).ready, false);
  await sql.raw("DROP TRIGGER full").execute(trail);
  await viewer.vms.listVms({});
  assert.equal((await health.check({})).ready, true);
  await trail.destroy();

  const state = await openState(directory);
  await sql.raw("ALTER TABLE users RENAME TO lost").execute(state);
  assert.equal((await health.check({})).ready, false);
  await sql.raw("ALTER TABLE lost RENAME TO users").execute(state);
  assert.equal((await health.check({})).ready, true);
  await state.destroy();
});
