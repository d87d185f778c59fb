import type { BindingRow, State } from "./schema.ts";

/** In one statement; the database takes 32766 parameters at most. */
const rowsPerStatement = 1000;

/** Those that were bound first come first. */
export function listBindings(state: State): Promise<BindingRow[]> {
  return state.selectFrom("bindings").selectAll().orderBy("bound_ms").orderBy("vm_uuid").execute();
}

/** Gives the agent those of the VMs that no agent has, and answers who has them now. */
export async function bindVms(state: State, agent: string, uuids: readonly string[]): Promise<BindingRow[]> {
  const rows: BindingRow[] = [];
  const bound_ms = Date.now();
  await state.transaction().execute(async (transaction) => {
    for (let at = 0; at < uuids.length; at += rowsPerStatement) {
      const some = uuids.slice(at, at + rowsPerStatement);
      await transaction
        .insertInto("bindings")
        .values(some.map((vm_uuid) => ({ vm_uuid, agent, bound_ms })))
        .onConflict((conflict) => conflict.column("vm_uuid").doNothing())
        .execute();
      rows.push(...(await transaction.selectFrom("bindings").selectAll().where("vm_uuid", "in", some).execute()));
    }
  });
  return rows;
}

/** False when no agent has the VM. */
export async function rebindVm(state: State, uuid: string, agent: string): Promise<boolean> {
  const { numUpdatedRows } = await state
    .updateTable("bindings")
    .set({ agent, bound_ms: Date.now() })
    .where("vm_uuid", "=", uuid)
    .executeTakeFirst();
  return numUpdatedRows > 0n;
}

/** No agent has these VMs any more. */
export async function unbindVms(state: State, uuids: readonly string[]): Promise<void> {
  await state.transaction().execute(async (transaction) => {
    for (let at = 0; at < uuids.length; at += rowsPerStatement) {
      const some = uuids.slice(at, at + rowsPerStatement);
      await transaction.deleteFrom("bindings").where("vm_uuid", "in", some).execute();
    }
  });
}
