import { closeSync, mkdirSync, openSync } from "node:fs";
import path from "node:path";
import { Kysely } from "kysely";
import { nodeSqliteDialect } from "./dialect.ts";
import { auditMigrations, migrate, stateMigrations } from "./migrations.ts";
import type { AuditStore, AuditTables, State, StateTables } from "./schema.ts";

/** Opens (and makes, and migrates) the database of projects, users, tokens, agents, owners and bindings in `directory`. */
export async function openState(directory: string): Promise<State> {
  const state = new Kysely<StateTables>({ dialect: nodeSqliteDialect(privateFile(directory, "state.db")) });
  await migrate(state, stateMigrations);
  return state;
}

/**
 * The audit trail is a database of its own: its one writer commits all the time, and must neither wait for nor hold
 * up changes to the state.
 */
export async function openAuditStore(directory: string): Promise<AuditStore> {
  const store = new Kysely<AuditTables>({ dialect: nodeSqliteDialect(privateFile(directory, "audit.db")) });
  await migrate(store, auditMigrations);
  return store;
}

/** Made for its owner alone before SQLite opens it; SQLite gives its WAL the same mode. */
function privateFile(directory: string, name: string): string {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const file = path.join(directory, name);
  closeSync(openSync(file, "a", 0o600));
  return file;
}
