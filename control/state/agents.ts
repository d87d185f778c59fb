import { invalid, notFound } from "../problem.ts";
import type { AgentRow, State } from "./schema.ts";

/** Throws InvalidArgument for a taken name. */
export async function insertAgent(state: State, name: string, address: string): Promise<void> {
  const { numInsertedOrUpdatedRows } = await state
    .insertInto("agents")
    .values({ name, address, created_ms: Date.now() })
    .onConflict((conflict) => conflict.column("name").doNothing())
    .executeTakeFirstOrThrow();
  if (numInsertedOrUpdatedRows === 0n)
    throw invalid(`agent ${name} exists already: remove it first, or choose another name`);
}

export function listAgentRows(state: State): Promise<AgentRow[]> {
  return state.selectFrom("agents").selectAll().orderBy("name").execute();
}

/** Throws NotFound. */
export async function deleteAgent(state: State, name: string): Promise<void> {
  const { numDeletedRows } = await state.deleteFrom("agents").where("name", "=", name).executeTakeFirst();
  if (numDeletedRows === 0n) throw notFound(`no agent ${JSON.stringify(name)}: see 'cloudvmi admin agents'`);
}
