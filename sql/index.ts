/**
 * SQL over the tables of many VMs. SQLite, in a WebAssembly memory of its own, plans a statement; what the plan needs is read
 * by the caller's `read`, all at once; then SQLite runs the statement over what has come. Nothing here knows where rows
 * come from.
 */
export { type SqlColumn, type SqlTable, sqlTables } from "./engine/schema.ts";
export type { SqlLimits } from "./protocol.ts";
export { runSql, type SqlOptions, type TableRead } from "./run.ts";
