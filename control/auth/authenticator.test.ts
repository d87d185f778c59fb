import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { openState } from "../state/database.ts";
import { createProject } from "../state/projects.ts";
import type { State } from "../state/schema.ts";
import { findToken } from "../state/tokens.ts";
import { createUser, setMembership } from "../state/users.ts";
import { createAuthenticator } from "./authenticator.ts";
import { bearerToken, newToken, parseCredential } from "./token.ts";

async function withState(run: (state: State) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(path.join(tmpdir(), "cloudvmi-auth-"));
  const state = await openState(directory);
  try {
    await createUser(state, "ann", false);
    await createProject(state, "shop", "");
    await run(state);
  } finally {
    await state.destroy();
    rmSync(directory, { recursive: true });
  }
}

const failureOf = (result: Awaited<ReturnType<ReturnType<typeof createAuthenticator>["authenticate"]>>) =>
  result.ok ? "none" : result.failure;

test("a token is cvmi_<id>_<secret>, never twice the same, and kept as a hash only", async () => {
  await withState(async (state) => {
    const authenticator = createAuthenticator(state);
    const { row, text } = await authenticator.createToken("ann", "laptop", 0);
    assert.match(text, /^cvmi_[0-9a-f]{16}_[A-Za-z0-9_-]{43}$/);
    assert.notEqual(newToken().text, newToken().text);
    const secret = text.slice(-43);
    assert.doesNotMatch(JSON.stringify(await findToken(state, row.id)), new RegExp(secret));
    const result = await authenticator.authenticate(parseCredential(text));
    assert.ok(result.ok);
    assert.equal(result.principal.account.name, "ann");
    assert.equal(result.principal.tokenId, row.id);
  });
});

test("what is no good token says which way", async () => {
  await withState(async (state) => {
    let now = 1_000_000;
    const authenticator = createAuthenticator(state, { now: () => now });
    const { row, text } = await authenticator.createToken("ann", "", 1);
    const check = async (token: string) => failureOf(await authenticator.authenticate(parseCredential(token)));
    const last = text.at(-1) === "A" ? "B" : "A";
    assert.equal(await check(""), "missing");
    assert.equal(await check("hunter2"), "malformed");
    assert.equal(await check(`${text}A`), "malformed");
    assert.equal(await check(newToken().text), "unknown");
    // The last character carries 4 bits of the 6: change the first of the secret instead.
    const secretAt = text.length - 43;
    const other = text[secretAt] === "A" ? "B" : last;
    assert.equal(await check(text.slice(0, secretAt) + other + text.slice(secretAt + 1)), "unknown");
    assert.equal(await check(text), "none");
    now += 3_600_000;
    assert.equal(await check(text), "expired");
    const second = await authenticator.createToken("ann", "", 0);
    await authenticator.revokeToken(second.row.id);
    assert.equal(await check(second.text), "revoked");
    const wrongSecret = `cvmi_${row.id}_${"A".repeat(43)}`;
    assert.deepEqual(await authenticator.authenticate(parseCredential(wrongSecret)), {
      ok: false,
      failure: "unknown",
      tokenId: "",
      user: "",
    });
  });
});

test("a revocation holds from when it returns, also against look-ups under way", async () => {
  await withState(async (state) => {
    const revoked: string[] = [];
    const authenticator = createAuthenticator(state, { onRevoked: (id) => revoked.push(id) });
    const { row, text } = await authenticator.createToken("ann", "", 0);
    const credential = parseCredential(text);
    const underWay = authenticator.authenticate(credential);
    await authenticator.revokeToken(row.id, "ann");
    await underWay;
    assert.equal(failureOf(await authenticator.authenticate(credential)), "revoked");
    assert.deepEqual(revoked, [row.id]);
  });
});

test("a user can't revoke another's token, which looks like none", async () => {
  await withState(async (state) => {
    await createUser(state, "bob", false);
    const authenticator = createAuthenticator(state);
    const { row, text } = await authenticator.createToken("ann", "", 0);
    await assert.rejects(authenticator.revokeToken(row.id, "bob"), /no token "[0-9a-f]{16}"/);
    await assert.rejects(authenticator.revokeToken("feedfeedfeedfeed", "bob"), /no token "feedfeedfeedfeed"/);
    assert.equal(failureOf(await authenticator.authenticate(parseCredential(text))), "none");
  });
});

test("last use is written at most once a minute", async () => {
  await withState(async (state) => {
    let now = 1_000_000;
    const authenticator = createAuthenticator(state, { now: () => now });
    const { row, text } = await authenticator.createToken("ann", "", 0);
    const use = async (at: number) => {
      now = at;
      await authenticator.authenticate(parseCredential(text));
      return (await findToken(state, row.id))?.last_used_ms;
    };
    assert.equal(await use(1_000_500), 1_000_500);
    assert.equal(await use(1_060_000), 1_000_500);
    assert.equal(await use(1_060_500), 1_060_500);
  });
});

test("roles are as of now once told to forget", async () => {
  await withState(async (state) => {
    const authenticator = createAuthenticator(state);
    const { text } = await authenticator.createToken("ann", "", 0);
    const role = async () => {
      const result = await authenticator.authenticate(parseCredential(text));
      return result.ok ? result.principal.account.memberships.get("shop") : "refused";
    };
    assert.equal(await role(), undefined);
    await setMembership(state, "ann", "shop", "analyst");
    authenticator.forget();
    assert.equal(await role(), "analyst");
  });
});

test("lifetimes are bounded", async () => {
  await withState(async (state) => {
    const authenticator = createAuthenticator(state, { now: () => 5 });
    assert.equal((await authenticator.createToken("ann", "", 0)).row.expires_ms, 5 + 30 * 86_400_000);
    assert.equal((await authenticator.createToken("ann", "", 2)).row.expires_ms, 5 + 7_200_000);
    await assert.rejects(authenticator.createToken("ann", "", 8785), /366 days/);
    await assert.rejects(authenticator.createToken("eve", "", 0), /no user "eve"/);
  });
});

test("the header's token", () => {
  assert.equal(bearerToken(null), "");
  assert.equal(bearerToken("Bearer abc"), "abc");
  assert.equal(bearerToken("bearer  abc "), "abc");
});
