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

test("a token that a user makes for himself does not outlive the one that it was made with", async () => {
  await withState(async (state) => {
    const authenticator = createAuthenticator(state, { now: () => 5 });
    const principalOf = async (text: string) => {
      const result = await authenticator.authenticate(parseCredential(text));
      assert.ok(result.ok);
      return result.principal;
    };
    const hour = 3_600_000;
    const short = await authenticator.createToken("ann", "", 1);
    const maker = await principalOf(short.text);
    const child = await authenticator.createToken("ann", "", 8784, maker);
    const shorter = await authenticator.createToken("ann", "", 0, await principalOf(child.text));
    assert.deepEqual([child.row.expires_ms, shorter.row.expires_ms], [5 + hour, 5 + hour]);
    assert.deepEqual([child.row.parent, shorter.row.parent], [short.row.id, child.row.id]);
    await authenticator.createLastingToken("ann", "", () => {});
    const [lasting] = (await authenticator.listTokens("ann")).filter(({ expires_ms }) => expires_ms === 0);
    const free = await authenticator.createToken("ann", "", 2, { ...maker, tokenId: lasting!.id, tokenExpiresMs: 0 });
    assert.equal(free.row.expires_ms, 5 + 2 * hour);

    await createUser(state, "bob", false);
    const bobs = await authenticator.createToken("bob", "", 8784, maker);
    assert.deepEqual([bobs.row.expires_ms, bobs.row.parent], [5 + 8784 * hour, ""]);
  });
});

test("revoking a token revokes what was made with it, at any depth, and nothing can be made with it any more", async () => {
  await withState(async (state) => {
    const revoked: string[] = [];
    const authenticator = createAuthenticator(state, { onRevoked: (id) => revoked.push(id) });
    const make = async (parent?: string) => {
      const result = parent === undefined ? undefined : await authenticator.authenticate(parseCredential(parent));
      const maker = result?.ok ? result.principal : undefined;
      return authenticator.createToken("ann", "", 0, maker);
    };
    const other = await make();
    const first = await make();
    const second = await make(first.text);
    const third = await make(second.text);
    const check = async (text: string) => failureOf(await authenticator.authenticate(parseCredential(text)));
    const stale = await authenticator.authenticate(parseCredential(second.text));
    await authenticator.revokeToken(first.row.id);
    for (const { text } of [first, second, third]) assert.equal(await check(text), "revoked");
    assert.equal(await check(other.text), "none");
    assert.deepEqual(
      revoked,
      [first, second, third].map(({ row }) => row.id),
    );
    assert.ok(stale.ok);
    await assert.rejects(authenticator.createToken("ann", "", 0, stale.principal), /has been revoked/);
  });
});

test("a user has so many valid tokens, and as many that were", async () => {
  await withState(async (state) => {
    let now = 1_000_000;
    const authenticator = createAuthenticator(state, { now: () => now++, maxTokens: 3 });
    await createUser(state, "bob", false);
    const [first] = [await authenticator.createToken("ann", "1", 1), await authenticator.createToken("ann", "2", 1)];
    await authenticator.createToken("ann", "3", 2);
    const refused = /ann has 3 valid tokens, the most allowed: revoke some \('cloudvmi token list'/;
    await assert.rejects(authenticator.createToken("ann", "4", 1), refused);
    await authenticator.createToken("bob", "", 1);
    await authenticator.revokeToken(first!.row.id);
    const fourth = await authenticator.createToken("ann", "4", 1);
    await assert.rejects(authenticator.createToken("ann", "5", 1), refused);
    now += 3_600_000;
    await authenticator.createToken("ann", "5", 9);
    for (const note of ["6", "7", "8"]) {
      const { row } = await authenticator.createToken("ann", note, 9);
      await authenticator.revokeToken(row.id);
    }
    await authenticator.createToken("ann", "9", 9);
    const notes = (await authenticator.listTokens("ann")).map(({ note }) => note);
    assert.deepEqual(notes, ["9", "8", "7", "6", "5", "3"]);
    assert.equal((await authenticator.listTokens("bob")).length, 1);
    assert.equal(failureOf(await authenticator.authenticate(parseCredential(fourth.text))), "unknown");
  });
});

test("the header's token", () => {
  assert.equal(bearerToken(null), "");
  assert.equal(bearerToken("Bearer abc"), "abc");
  assert.equal(bearerToken("bearer  abc "), "abc");
});
