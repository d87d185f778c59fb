// The examples of every table, by the SQL engine over a guest that has something in each: as people will run them.
import assert from "node:assert/strict";
import { create, toBinary } from "@bufbuild/protobuf";
import { encodedHeader, tableSpecs } from "../../agent/inspector/catalogue.ts";
import { encodeRows } from "../../agent/inspector/encode-rows.ts";
import { ReadTableResponseSchema, TableSpecSchema } from "../../proto/gen/cloudvmi/v1/guest_pb.ts";
import { sqlReading } from "../../sdk/index.ts";
import { runSql, sqlTables, type TableRead } from "../../sql/index.ts";
import { type Guest, tables } from "../../vmi/index.ts";

const catalogue = sqlTables(tableSpecs().map((spec) => create(TableSpecSchema, spec)));

/**
 * Examples that look for what the workload has nothing of: traces of an intruder or of a fault, and what only some machines
 * have. Every other one gives rows.
 */
const mayBeEmpty: ReadonlySet<string> = new Set([
  "SELECT p.pid, p.name, e.value FROM processes p JOIN process_envs e USING (vm, pid) WHERE e.key = 'LD_PRELOAD'",
  "SELECT pid, name, symbol FROM kernel_threads WHERE module IS NOT NULL",
  "SELECT pid, start, end, path FROM process_memory_map WHERE permissions LIKE '%wx%'",
  "SELECT cred, count(*) AS processes FROM process_credentials GROUP BY cred HAVING processes > 1",
  "SELECT pid, name FROM process_signals WHERE blocked = 1 AND signal = 15",
  "SELECT name, size, taints FROM kernel_modules WHERE taints <> ''",
  "SELECT vector, address, symbol, module FROM interrupt_table WHERE present = 1 AND (module IS NULL OR module <> '')",
  "SELECT number, name, address, symbol, module FROM syscall_table WHERE expected = 0",
  "SELECT chain, address, symbol FROM notifier_chains WHERE module IS NULL",
  "SELECT net_namespace, family, hook, priority, symbol, module FROM netfilter_hooks WHERE module IS NULL OR registered = 0",
  "SELECT kind, address, symbol, module FROM timers_and_workqueues WHERE kind <> 'workqueue' AND module IS NULL",
  "SELECT id, name FROM loaded_bpf_programs WHERE pids IS NULL",
  "SELECT symbol, module, flags, functions FROM ftrace_hooks WHERE flags LIKE '%ipmodify%'",
  "SELECT name, symbol, functions FROM ftrace_hooks WHERE module IS NOT NULL",
  "SELECT symbol, type, pre_handler_symbol, pre_handler_module FROM kprobes WHERE event IS NULL",
  "SELECT message FROM kernel_log WHERE level IN ('emerg', 'alert', 'crit', 'err')",
  "SELECT cpu FROM cpu_info WHERE ' ' || flags || ' ' NOT LIKE '% smep %'",
]);

/** Runs every example over the guest. Throws where one fails or gives nothing. Returns how many ran, and over how many rows. */
export async function runExamples(guest: Guest): Promise<string> {
  const read = async function* ({ table, columns, where, limit }: TableRead) {
    const { columns: header, data, rows, retried, incomplete, notes } = guest.table(table, { columns, where, limit });
    const summary = { rows: BigInt(rows), retried, incomplete, notes: [...notes] };
    const last = toBinary(ReadTableResponseSchema, create(ReadTableResponseSchema, { summary }));
    yield* encodeRows(data, rows, encodedHeader(table, header), last);
  };
  const empty: string[] = [];
  let ran = 0;
  let all = 0;
  for (const example of tables.flatMap(({ examples }) => examples)) {
    const reading = sqlReading(() => runSql(example, { tables: catalogue, vms: ["guest"], read }));
    const rows = await reading.all();
    const names = await reading.columns();
    const { failures } = await reading.summary;
    assert.deepEqual(failures, [], example);
    assert.ok(names.length > 0, example);
    for (const row of rows) assert.deepEqual(Object.keys(row), names, example);
    if (rows.length === 0) empty.push(example);
    ran++;
    all += rows.length;
  }
  assert.deepEqual(
    empty.filter((example) => !mayBeEmpty.has(example)),
    [],
    "examples without rows",
  );
  return `${ran} examples, ${all} rows, ${empty.length} empty`;
}

/** Each is an example that there is. */
export const exceptions: Iterable<string> = mayBeEmpty;
