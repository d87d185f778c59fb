import type { State, TokenRow } from "./schema.ts";

/**
 * Of tokens that are good no more, a user's newest `most` are kept, as many as may be good. Without "inserted" there is
 * no new one: `most` are good, or its parent has been revoked meanwhile.
 */
export function insertToken(state: State, row: TokenRow, most: number): Promise<"inserted" | "too-many" | "revoked"> {
  return state.transaction().execute(async (transaction) => {
    const parent = await findToken(transaction, row.parent);
    if (parent !== undefined && parent.revoked_ms !== 0) return "revoked";
    const live = transaction
      .selectFrom("tokens")
      .select("id")
      .where("user_name", "=", row.user_name)
      .where("revoked_ms", "=", 0)
      .where((is) => is.or([is("expires_ms", "=", 0), is("expires_ms", ">", row.created_ms)]));
    if ((await live.limit(most).execute()).length >= most) return "too-many";
    const newestDead = transaction
      .selectFrom("tokens")
      .select("id")
      .where("user_name", "=", row.user_name)
      .where("id", "not in", live)
      .orderBy("created_ms", "desc")
      .limit(most);
    await transaction
      .deleteFrom("tokens")
      .where("user_name", "=", row.user_name)
      .where("id", "not in", live)
      .where("id", "not in", newestDead)
      .execute();
    await transaction.insertInto("tokens").values(row).execute();
    return "inserted";
  });
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

/** Revokes a token and those that were made with it, and with those. Returns the ids of all of them. */
export function markRevoked(state: State, id: string, atMs: number): Promise<string[]> {
  return state.transaction().execute(async (transaction) => {
    const all: string[] = [];
    for (let next = [id]; next.length > 0; ) {
      all.push(...next);
      await transaction
        .updateTable("tokens")
        .set({ revoked_ms: atMs })
        .where("id", "in", next)
        .where("revoked_ms", "=", 0)
        .execute();
      const children = await transaction.selectFrom("tokens").select("id").where("parent", "in", next).execute();
      next = children.map((child) => child.id);
    }
    return all;
  });
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
