import type { State, TokenRow } from "./schema.ts";

export async function insertToken(state: State, row: TokenRow): Promise<void> {
  await state.insertInto("tokens").values(row).execute();
}

export function findToken(state: State, id: string): Promise<TokenRow | undefined> {
  return state.selectFrom("tokens").selectAll().where("id", "=", id).executeTakeFirst();
}

/** Newest first. */
export function listTokens(state: State, user: string): Promise<TokenRow[]> {
  return state
    .selectFrom("tokens")
    .selectAll()
    .where("user_name", "=", user)
    .orderBy("created_ms", "desc")
    .orderBy("id")
    .execute();
}

/** False when it had been revoked before. */
export async function markRevoked(state: State, id: string, atMs: number): Promise<boolean> {
  const { numUpdatedRows } = await state
    .updateTable("tokens")
    .set({ revoked_ms: atMs })
    .where("id", "=", id)
    .where("revoked_ms", "=", 0)
    .executeTakeFirst();
  return numUpdatedRows > 0n;
}

export async function markUsed(state: State, id: string, atMs: number): Promise<void> {
  await state.updateTable("tokens").set({ last_used_ms: atMs }).where("id", "=", id).execute();
}

/** Whether an operator has, or ever had, a token. */
export async function hasOperatorToken(state: State): Promise<boolean> {
  const token = await state
    .selectFrom("tokens")
    .innerJoin("users", "users.name", "tokens.user_name")
    .select("tokens.id")
    .where("users.operator", "=", 1)
    .limit(1)
    .executeTakeFirst();
  return token !== undefined;
}
