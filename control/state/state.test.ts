import assert from "node:assert/strict";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { sql } from "kysely";
import { deleteAgent, insertAgent, listAgentRows } from "./agents.ts";
import { openAuditStore, openState } from "./database.ts";
import { createProject, listOwners, listProjects, setOwner } from "./projects.ts";
import { roles, type State } from "./schema.ts";
import { createUser, findUser, listUsers, setMembership } from "./users.ts";

async function inDirectory(run: (directory: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(path.join(tmpdir(), "cloudvmi-state-"));
  try {
    await run(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

async function withState(run: (state: State) => Promise<void>): Promise<void> {
  await inDirectory(async (directory) => {
    const state = await openState(directory);
    await run(state);
    await state.destroy();
  });
}

test("a database is migrated once, is durable, and is its owner's alone", async () => {
  await inDirectory(async (directory) => {
    const inner = path.join(directory, "made", "for", "it");
    const first = await openState(inner);
    await createProject(first, "shop", "the shop");
    const durability = await sql<{ synchronous: number }>`PRAGMA synchronous`.execute(first);
    assert.equal(durability.rows[0]?.synchronous, 2);
    const journal = await sql<{ journal_mode: string }>`PRAGMA journal_mode`.execute(first);
    assert.equal(journal.rows[0]?.journal_mode, "wal");
    await first.destroy();
    const second = await openState(inner);
    assert.deepEqual(
      (await listProjects(second)).map(({ name, description }) => [name, description]),
      [["shop", "the shop"]],
    );
    await second.destroy();
    await (await openAuditStore(inner)).destroy();
    for (const file of ["state.db", "audit.db"]) {
      assert.equal(statSync(path.join(inner, file)).mode & 0o777, 0o600, file);
    }
    assert.equal(statSync(inner).mode & 0o777, 0o700);
  });
});

test("names are unique and have a form", async () => {
  await withState(async (state) => {
    await createProject(state, "shop", "");
    await createUser(state, "ann", true);
    await assert.rejects(createProject(state, "shop", ""), /project shop exists already/);
    await assert.rejects(createUser(state, "ann", false), /user ann exists already/);
    for (const name of ["", "a b", "-a", "a/b", "a\n", "x".repeat(64)]) {
      await assert.rejects(createUser(state, name, false), /is no name for a user/, JSON.stringify(name));
      await assert.rejects(createProject(state, name, ""), /is no name for a project/, JSON.stringify(name));
    }
    assert.equal((await findUser(state, "ann"))?.operator, true);
  });
});

test("memberships are set, changed and taken away; the database itself refuses other roles", async () => {
  await withState(async (state) => {
    await createProject(state, "shop", "");
    await createUser(state, "ann", false);
    const role = async () => (await findUser(state, "ann"))?.memberships.get("shop");
    const fingerprints = new Set([(await findUser(state, "ann"))?.fingerprint]);
    for (const each of roles) {
      await setMembership(state, "ann", "shop", each);
      assert.equal(await role(), each);
      fingerprints.add((await findUser(state, "ann"))?.fingerprint);
    }
    assert.equal(fingerprints.size, roles.length + 1);
    assert.deepEqual([...((await listUsers(state))[0]?.memberships ?? [])], [["shop", "owner"]]);
    await setMembership(state, "ann", "shop", "");
    assert.equal(await role(), undefined);
    await assert.rejects(setMembership(state, "ann", "shop", "king"), /no role "king": use viewer, analyst/);
    await assert.rejects(setMembership(state, "ann", "bank", "viewer"), /no project "bank"/);
    await assert.rejects(setMembership(state, "eve", "shop", "viewer"), /no user "eve"/);
    const forged = sql`insert into memberships (user_name, project, role) values ('ann', 'shop', 'king')`;
    await assert.rejects(forged.execute(state), /CHECK/);
  });
});

test("owners are set, changed and taken back; agents added and removed", async () => {
  await withState(async (state) => {
    await createProject(state, "shop", "");
    await createProject(state, "bank", "");
    await setOwner(state, "u-1", "shop");
    await setOwner(state, "u-1", "bank");
    assert.deepEqual(
      (await listOwners(state)).map(({ vm_uuid, project }) => [vm_uuid, project]),
      [["u-1", "bank"]],
    );
    await setOwner(state, "u-1", "");
    assert.deepEqual(await listOwners(state), []);
    await assert.rejects(setOwner(state, "u-1", "none"), /no project "none"/);

    await insertAgent(state, "host1", "unix:/a");
    await assert.rejects(insertAgent(state, "host1", "unix:/b"), /agent host1 exists already/);
    assert.deepEqual(
      (await listAgentRows(state)).map(({ address }) => address),
      ["unix:/a"],
    );
    await deleteAgent(state, "host1");
    await assert.rejects(deleteAgent(state, "host1"), /no agent "host1"/);
  });
});
