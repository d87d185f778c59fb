import { exhausted, invalid, notFound, unauthenticated } from "../problem.ts";
import type { State, TokenRow } from "../state/schema.ts";
import { findToken, insertToken, listTokens, markRevoked, markUsed } from "../state/tokens.ts";
import { type Account, requireUser } from "../state/users.ts";
import { type Credential, newToken, sameHash } from "./token.ts";

/** Who calls, as of now. */
export interface Principal {
  readonly account: Account;
  readonly tokenId: string;
  /** 0: does not expire. */
  readonly tokenExpiresMs: number;
}

export type AuthFailure = "missing" | "malformed" | "unknown" | "expired" | "revoked";

/** What each failure says to the caller. An id that is known with a wrong secret is "unknown" too. */
export const authFailureText: Record<AuthFailure, string> = {
  missing: "no token was sent: run 'cloudvmi login'",
  malformed: "that is not a CloudVMI token (cvmi_…): run 'cloudvmi login' with the token you were given",
  unknown: "unknown token: ask an operator for one, then run 'cloudvmi login'",
  expired: "this token has expired: ask for a new one, then run 'cloudvmi login'",
  revoked: "this token has been revoked: ask for a new one, then run 'cloudvmi login'",
};

export type Authentication =
  | { readonly ok: true; readonly principal: Principal }
  | { readonly ok: false; readonly failure: AuthFailure; readonly tokenId: string; readonly user: string };

/** Changes made by another process, such as an operator's tool on the database, are seen within this time. */
const reloadAfterMs = 5_000;
const writeUseAfterMs = 60_000;
/** Valid tokens of one user. */
export const defaultMaxTokens = 100;
const dayMs = 86_400_000;
const unknownHash = "00".repeat(32);

interface Entry {
  readonly token: TokenRow;
  readonly account: Account;
  readonly loadedMs: number;
}

export interface Authenticator {
  /** Decides anew at every call, so that a revoked token stops working on connections already open. */
  authenticate(credential: Credential): Promise<Authentication>;
  /**
   * The text is shown once and kept nowhere. `lifetimeHours` 0: 30 days; at most 366 days. `maker`: who makes it; a
   * token that a user makes for himself ends with the one that he makes it with. Throws ResourceExhausted for too many.
   */
  createToken(
    user: string,
    note: string,
    lifetimeHours: number,
    maker?: Principal,
  ): Promise<{ row: TokenRow; text: string }>;
  /** A token for bootstrap, which does not expire. `keep` is given its text before it is valid: if it throws, there is no token. */
  createLastingToken(user: string, note: string, keep: (text: string) => void): Promise<void>;
  listTokens(user: string): Promise<TokenRow[]>;
  /** With those made with it. `owner` given: only a token of that user. Takes effect before it returns. Throws NotFound. */
  revokeToken(id: string, owner?: string): Promise<TokenRow>;
  /** Must be called when a user's memberships have changed: they then hold for the next call. */
  forget(): void;
}

export function createAuthenticator(
  state: State,
  options: {
    now?: () => number;
    /** Valid tokens of one user. */
    maxTokens?: number;
    onRevoked?: (tokenId: string) => void;
  } = {},
): Authenticator {
  const now = options.now ?? Date.now;
  const maxTokens = options.maxTokens ?? defaultMaxTokens;
  const entries = new Map<string, Entry>();
  const lastUse = new Map<string, number>();
  let generation = 0;

  async function load(id: string): Promise<Entry | undefined> {
    const known = entries.get(id);
    if (known !== undefined && now() - known.loadedMs < reloadAfterMs) return known;
    for (;;) {
      const began = generation;
      const token = await findToken(state, id);
      if (token === undefined) return undefined;
      const entry = { token, account: await requireUser(state, token.user_name), loadedMs: now() };
      // What was read before a revocation must not outlive it.
      if (generation !== began) continue;
      if (entries.size > 10_000) entries.clear();
      entries.set(id, entry);
      return entry;
    }
  }

  async function noteUse(token: TokenRow): Promise<void> {
    const at = now();
    if (at - (lastUse.get(token.id) ?? token.last_used_ms) < writeUseAfterMs) return;
    if (lastUse.size > 10_000) lastUse.clear();
    lastUse.set(token.id, at);
    await markUsed(state, token.id, at);
  }

  /** `expiresMs` 0: never. */
  async function create(
    user: string,
    note: string,
    { createdMs, expiresMs }: { createdMs: number; expiresMs: number },
    { parent = "", keep }: { parent?: string; keep?: (text: string) => void } = {},
  ): Promise<{ row: TokenRow; text: string }> {
    await requireUser(state, user);
    if (note.length > 200) throw invalid("the note is longer than 200 characters: shorten it");
    const token = newToken();
    const row: TokenRow = {
      id: token.id,
      user_name: user,
      secret_hash: token.secretHash,
      note,
      created_ms: createdMs,
      expires_ms: expiresMs,
      revoked_ms: 0,
      last_used_ms: 0,
      parent,
    };
    keep?.(token.text);
    const outcome = await insertToken(state, row, maxTokens);
    if (outcome === "revoked") throw unauthenticated(authFailureText.revoked);
    if (outcome === "too-many") {
      throw exhausted(
        `${user} has ${maxTokens} valid tokens, the most allowed: revoke some ('cloudvmi token list' shows one's own)`,
      );
    }
    return { row, text: token.text };
  }

  return {
    async authenticate(credential) {
      if (credential.kind !== "token") return { ok: false, failure: credential.kind, tokenId: "", user: "" };
      const entry = await load(credential.id);
      const matches = sameHash(entry?.token.secret_hash ?? unknownHash, credential.secretHash);
      // Nothing is said or recorded of a token whose secret the caller does not have.
      if (entry === undefined || !matches) return { ok: false, failure: "unknown", tokenId: "", user: "" };
      const { token, account } = entry;
      const refuse = (failure: AuthFailure): Authentication => ({
        ok: false,
        failure,
        tokenId: token.id,
        user: account.name,
      });
      if (token.revoked_ms !== 0) return refuse("revoked");
      if (token.expires_ms !== 0 && token.expires_ms <= now()) return refuse("expired");
      await noteUse(token);
      return { ok: true, principal: { account, tokenId: token.id, tokenExpiresMs: token.expires_ms } };
    },

    async createToken(user, note, lifetimeHours, maker) {
      if (lifetimeHours > 366 * 24) throw invalid("a token may live 366 days (8784 hours) at most: ask for less");
      const createdMs = now();
      const expiresMs = createdMs + (lifetimeHours === 0 ? 30 * dayMs : lifetimeHours * 3_600_000);
      // An operator's token for another is that user's own from the start: it stays when the operator's goes.
      if (maker === undefined || maker.account.name !== user) return create(user, note, { createdMs, expiresMs });
      const latestMs = maker.tokenExpiresMs === 0 ? expiresMs : Math.min(expiresMs, maker.tokenExpiresMs);
      return create(user, note, { createdMs, expiresMs: latestMs }, { parent: maker.tokenId });
    },

    async createLastingToken(user, note, keep) {
      await create(user, note, { createdMs: now(), expiresMs: 0 }, { keep });
    },

    async listTokens(user) {
      await requireUser(state, user);
      return listTokens(state, user);
    },

    async revokeToken(id, owner) {
      const token = await findToken(state, id);
      if (token === undefined || (owner !== undefined && token.user_name !== owner)) {
        throw notFound(`no token ${JSON.stringify(id)}: list the tokens to see their ids`);
      }
      const revoked = await markRevoked(state, id, now());
      generation++;
      for (const each of revoked) {
        entries.delete(each);
        options.onRevoked?.(each);
      }
      return token;
    },

    forget() {
      generation++;
      entries.clear();
    },
  };
}
