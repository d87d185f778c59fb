import path from "node:path";
import type { Authenticator } from "./auth/authenticator.ts";
import { writeWhole } from "./certificates.ts";
import type { ControlConfig } from "./config.ts";
import { ConfigError } from "./config.ts";
import type { Log } from "./log.ts";
import { createProject, listProjects } from "./state/projects.ts";
import type { State } from "./state/schema.ts";
import { hasOperatorToken } from "./state/tokens.ts";
import { countUsers, createUser, findUser, listUsers, setMembership } from "./state/users.ts";

/**
 * Gives an empty database its first operator, `admin`, whose token is written to `admin.token` in the state
 * directory, for its owner alone. It does not expire: revoke it once there are operators with tokens of their own.
 * A start that ended before the token was valid is made up for: without one, nobody could make any.
 */
export async function bootstrap(
  state: State,
  authenticator: Authenticator,
  directory: string,
  log: Log,
): Promise<void> {
  if ((await countUsers(state)) === 0) await createUser(state, "admin", true);
  else if ((await findUser(state, "admin"))?.operator !== true || (await hasOperatorToken(state))) return;
  const file = path.join(directory, "admin.token");
  await authenticator.createLastingToken("admin", "first token", (text) => writeWhole(file, `${text}\n`, 0o600));
  log.info("first operator created", { user: "admin", tokenFile: file });
}

/** Makes the projects and users of the configuration that are missing, and sets their memberships. Throws ConfigError. */
export async function applyConfig(state: State, config: ControlConfig): Promise<void> {
  const projects = new Set((await listProjects(state)).map(({ name }) => name));
  for (const { name, description } of config.projects) {
    if (!projects.has(name)) await createProject(state, name, description);
    projects.add(name);
  }
  const users = new Map((await listUsers(state)).map((user) => [user.name, user]));
  for (const { name, operator, memberships } of config.users) {
    const known = users.get(name);
    if (known === undefined) await createUser(state, name, operator);
    else if (known.operator !== operator) {
      throw new ConfigError(
        `user ${name} is ${known.operator ? "an" : "no"} operator since it was made: set operator = ${known.operator}`,
      );
    }
    for (const { project, role } of memberships) {
      if (!projects.has(project))
        throw new ConfigError(`user ${name}: there is no project ${project}: add a [[project]]`);
      await setMembership(state, name, project, role);
    }
  }
}
