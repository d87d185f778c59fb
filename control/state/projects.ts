import { checkName, invalid, notFound } from "../problem.ts";
import type { OwnerRow, ProjectRow, State } from "./schema.ts";

/** Throws InvalidArgument for a bad or taken name. */
export async function createProject(state: State, name: string, description: string): Promise<ProjectRow> {
  checkName("project", name);
  const row = { name, description, created_ms: Date.now() };
  const { numInsertedOrUpdatedRows } = await state
    .insertInto("projects")
    .values(row)
    .onConflict((conflict) => conflict.column("name").doNothing())
    .executeTakeFirstOrThrow();
  if (numInsertedOrUpdatedRows === 0n) throw invalid(`project ${name} exists already: choose another name`);
  return row;
}

export function listProjects(state: State): Promise<ProjectRow[]> {
  return state.selectFrom("projects").selectAll().orderBy("name").execute();
}

/** Throws NotFound. */
export async function requireProject(state: State, name: string): Promise<ProjectRow> {
  const row = await state.selectFrom("projects").selectAll().where("name", "=", name).executeTakeFirst();
  if (row === undefined) throw notFound(`no project ${JSON.stringify(name)}: create it with 'cloudvmi admin'`);
  return row;
}

export function listOwners(state: State): Promise<OwnerRow[]> {
  return state.selectFrom("owners").selectAll().execute();
}

/** An empty project takes the ownership back. Throws NotFound for an unknown project. */
export async function setOwner(state: State, vmUuid: string, project: string): Promise<void> {
  if (project === "") {
    await state.deleteFrom("owners").where("vm_uuid", "=", vmUuid).execute();
    return;
  }
  await requireProject(state, project);
  await state
    .insertInto("owners")
    .values({ vm_uuid: vmUuid, project })
    .onConflict((conflict) => conflict.column("vm_uuid").doUpdateSet({ project }))
    .execute();
}
