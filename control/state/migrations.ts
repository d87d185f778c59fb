import { type Kysely, sql } from "kysely";
import { type Migration, Migrator } from "kysely/migration";

type Migrations = Record<string, Migration>;

/** In the order of their names; one that has been released is never edited. */
export const stateMigrations: Migrations = {
  "0001-first": {
    async up(db: Kysely<unknown>) {
      await db.schema
        .createTable("projects")
        .addColumn("name", "text", (c) => c.primaryKey())
        .addColumn("description", "text", (c) => c.notNull())
        .addColumn("created_ms", "bigint", (c) => c.notNull())
        .execute();
      await db.schema
        .createTable("users")
        .addColumn("name", "text", (c) => c.primaryKey())
        .addColumn("operator", "integer", (c) => c.notNull())
        .addColumn("created_ms", "bigint", (c) => c.notNull())
        .execute();
      await db.schema
        .createTable("memberships")
        .addColumn("user_name", "text", (c) => c.notNull().references("users.name"))
        .addColumn("project", "text", (c) => c.notNull().references("projects.name"))
        .addColumn("role", "text", (c) => c.notNull())
        .addPrimaryKeyConstraint("memberships_key", ["user_name", "project"])
        .addCheckConstraint("memberships_role", sql`role in ('viewer', 'analyst', 'responder', 'owner')`)
        .execute();
      await db.schema
        .createTable("tokens")
        .addColumn("id", "text", (c) => c.primaryKey())
        .addColumn("user_name", "text", (c) => c.notNull().references("users.name"))
        .addColumn("secret_hash", "text", (c) => c.notNull())
        .addColumn("note", "text", (c) => c.notNull())
        .addColumn("created_ms", "bigint", (c) => c.notNull())
        .addColumn("expires_ms", "bigint", (c) => c.notNull())
        .addColumn("revoked_ms", "bigint", (c) => c.notNull())
        .addColumn("last_used_ms", "bigint", (c) => c.notNull())
        .execute();
      await db.schema.createIndex("tokens_by_user").on("tokens").column("user_name").execute();
      await db.schema
        .createTable("agents")
        .addColumn("name", "text", (c) => c.primaryKey())
        .addColumn("address", "text", (c) => c.notNull())
        .addColumn("created_ms", "bigint", (c) => c.notNull())
        .execute();
      await db.schema
        .createTable("owners")
        .addColumn("vm_uuid", "text", (c) => c.primaryKey())
        .addColumn("project", "text", (c) => c.notNull().references("projects.name"))
        .execute();
    },
  },
  "0002-bindings": {
    async up(db: Kysely<unknown>) {
      await db.schema
        .createTable("bindings")
        .addColumn("vm_uuid", "text", (c) => c.primaryKey())
        .addColumn("agent", "text", (c) => c.notNull())
        .addColumn("bound_ms", "bigint", (c) => c.notNull())
        .execute();
      await db.schema.createIndex("bindings_by_agent").on("bindings").columns(["agent", "bound_ms"]).execute();
    },
  },
  "0003-token-parents": {
    async up(db: Kysely<unknown>) {
      await db.schema
        .alterTable("tokens")
        .addColumn("parent", "text", (c) => c.notNull().defaultTo(""))
        .execute();
      await db.schema.createIndex("tokens_by_parent").on("tokens").column("parent").execute();
    },
  },
};

export const auditMigrations: Migrations = {
  "0001-first": {
    async up(db: Kysely<unknown>) {
      await db.schema
        .createTable("audit")
        .addColumn("sequence", "bigint", (c) => c.primaryKey())
        .addColumn("time_ms", "bigint", (c) => c.notNull())
        .addColumn("user_name", "text", (c) => c.notNull())
        .addColumn("token_id", "text", (c) => c.notNull())
        .addColumn("action", "text", (c) => c.notNull())
        .addColumn("vm_uuid", "text", (c) => c.notNull())
        .addColumn("vm_incarnation", "text", (c) => c.notNull())
        .addColumn("project", "text", (c) => c.notNull())
        .addColumn("decision", "text", (c) => c.notNull())
        .addColumn("reason", "text", (c) => c.notNull())
        .addColumn("detail", "text", (c) => c.notNull())
        .addColumn("hash", "text", (c) => c.notNull())
        .execute();
    },
  },
};

/** Brings a database up to date; throws what the failed migration threw. */
export async function migrate<T>(db: Kysely<T>, migrations: Migrations): Promise<void> {
  const migrator = new Migrator({ db, provider: { getMigrations: async () => migrations } });
  const { error } = await migrator.migrateToLatest();
  if (error !== undefined) throw error;
}
