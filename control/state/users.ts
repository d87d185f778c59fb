import { checkName, invalid, notFound } from "../problem.ts";
import { requireProject } from "./projects.ts";
import { isRole, type MembershipRow, type Role, roles, type State, type UserRow } from "./schema.ts";

/** A user with its roles, by project. */
export interface Account {
  readonly name: string;
  readonly operator: boolean;
  readonly createdMs: number;
  readonly memberships: ReadonlyMap<string, Role>;
  /** Differs whenever anything that policy sees of the user does. */
  readonly fingerprint: string;
}

/** Throws InvalidArgument for a bad or taken name. */
export async function createUser(state: State, name: string, operator: boolean): Promise<Account> {
  checkName("user", name);
  const createdMs = Date.now();
  const { numInsertedOrUpdatedRows } = await state
    .insertInto("users")
    .values({ name, operator: operator ? 1 : 0, created_ms: createdMs })
    .onConflict((conflict) => conflict.column("name").doNothing())
    .executeTakeFirstOrThrow();
  if (numInsertedOrUpdatedRows === 0n) throw invalid(`user ${name} exists already: choose another name`);
  return toAccount({ name, operator: operator ? 1 : 0, created_ms: createdMs }, []);
}

export async function findUser(state: State, name: string): Promise<Account | undefined> {
  const row = await state.selectFrom("users").selectAll().where("name", "=", name).executeTakeFirst();
  if (row === undefined) return undefined;
  return toAccount(row, await state.selectFrom("memberships").selectAll().where("user_name", "=", name).execute());
}

/** Throws NotFound. */
export async function requireUser(state: State, name: string): Promise<Account> {
  const account = await findUser(state, name);
  if (account === undefined) throw notFound(`no user ${JSON.stringify(name)}: create it with 'cloudvmi admin'`);
  return account;
}

export async function listUsers(state: State): Promise<Account[]> {
  const users = await state.selectFrom("users").selectAll().orderBy("name").execute();
  const memberships = Map.groupBy(
    await state.selectFrom("memberships").selectAll().orderBy("project").execute(),
    (row) => row.user_name,
  );
  return users.map((user) => toAccount(user, memberships.get(user.name) ?? []));
}

export async function countUsers(state: State): Promise<number> {
  const row = await state
    .selectFrom("users")
    .select((builder) => builder.fn.countAll<number | bigint | string>().as("users"))
    .executeTakeFirstOrThrow();
  return Number(row.users);
}

/** An empty role takes the membership away. Throws NotFound for an unknown user or project, InvalidArgument for a bad role. */
export async function setMembership(state: State, user: string, project: string, role: string): Promise<void> {
  await requireUser(state, user);
  await requireProject(state, project);
  if (role === "") {
    await state.deleteFrom("memberships").where("user_name", "=", user).where("project", "=", project).execute();
    return;
  }
  if (!isRole(role)) throw invalid(`no role ${JSON.stringify(role)}: use ${roles.join(", ")}, or none to take it away`);
  await state
    .insertInto("memberships")
    .values({ user_name: user, project, role })
    .onConflict((conflict) => conflict.columns(["user_name", "project"]).doUpdateSet({ role }))
    .execute();
}

function toAccount(row: UserRow, memberships: MembershipRow[]): Account {
  return {
    name: row.name,
    operator: row.operator === 1,
    createdMs: row.created_ms,
    memberships: new Map(memberships.map(({ project, role }) => [project, role])),
    fingerprint: [row.name, row.operator, ...memberships.map(({ project, role }) => `${project}/${role}`)].join(" "),
  };
}
