import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { createAuthenticator } from "./auth/authenticator.ts";
import { parseCredential } from "./auth/token.ts";
import { bootstrap } from "./bootstrap.ts";
import { createLog } from "./log.ts";
import { openState } from "./state/database.ts";
import type { State } from "./state/schema.ts";
import { createUser } from "./state/users.ts";

const log = createLog(() => {});

async function withState(run: (state: State, directory: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(path.join(tmpdir(), "cloudvmi-bootstrap-"));
  const state = await openState(directory);
  try {
    await run(state, directory);
  } finally {
    await state.destroy();
    rmSync(directory, { recursive: true });
  }
}

const readToken = (directory: string) => readFileSync(path.join(directory, "admin.token"), "utf8").trim();

test("a start that fails before the first token is kept is made up for by the next", async () => {
  await withState(async (state, directory) => {
    const authenticator = createAuthenticator(state);
    const later = path.join(directory, "not-there-yet");
    await assert.rejects(bootstrap(state, authenticator, later, log), /ENOENT/);
    // An operator of the configuration has no token either, and can't make one.
    await createUser(state, "ann", true);
    mkdirSync(later);
    await bootstrap(state, authenticator, later, log);
    const credential = parseCredential(readToken(later));
    assert.equal((await authenticator.authenticate(credential)).ok, true);
    assert.equal((await authenticator.listTokens("admin")).length, 1);
  });
});

test("whoever has operators with tokens is given no other, not even for one revoked or a file taken away", async () => {
  await withState(async (state, directory) => {
    const authenticator = createAuthenticator(state);
    await bootstrap(state, authenticator, directory, log);
    rmSync(path.join(directory, "admin.token"));
    await bootstrap(state, authenticator, directory, log);
    const [token] = await authenticator.listTokens("admin");
    await authenticator.revokeToken(token?.id ?? "");
    await bootstrap(state, authenticator, directory, log);
    assert.equal((await authenticator.listTokens("admin")).length, 1);
    assert.throws(() => readToken(directory), /ENOENT/);
  });
});
