import assert from "node:assert/strict";
import { test } from "node:test";
import { Budget } from "../budget.ts";
import type { GuestError } from "../errors.ts";
import { attach } from "../guest.ts";
import { miniGuest } from "../testing/mini-guest.ts";
import { addProcess } from "../testing/mini-objects.ts";
import { rowsOf } from "../testing/rows.ts";
import { tables } from "./index.ts";
import type { TableQuery } from "./read-table.ts";

const { kernel: mini } = miniGuest();
for (let pid = 1000; pid < 2000; pid++) addProcess(mini, { pid, comm: `worker${pid % 7}`, nice: pid % 5 });
const guest = attach(mini.ram.mapped());
const processes = (query: TableQuery) => rowsOf(guest.table("processes", query));
const pids = (query: TableQuery) => processes({ columns: ["pid"], ...query }).map(({ pid }) => pid);
const everyPid = [1, 2, 300, ...Array.from({ length: 1000 }, (_, i) => 1000 + i)];

/** The tables for which the miniature kernel has what they read; the others say what it lacks. */
const answered = tables.filter(({ name, required }) => {
  if (required.length > 0) return false;
  try {
    guest.table(name);
    return true;
  } catch (error) {
    assert.equal((error as GuestError).kind, "unsupported-kernel", `${name}: ${(error as Error).message}`);
    return false;
  }
});
// Some are rightly empty: nothing is deleted there, for one.
assert.ok(answered.filter(({ name }) => guest.table(name).rows > 0).length >= 6);

test("columns come as they were asked for: some, in any order", () => {
  for (const table of answered) {
    const all = guest.table(table.name);
    const names = Object.keys(table.columns);
    assert.deepEqual(
      all.columns.map(({ name }) => name),
      names,
      table.name,
    );
    assert.equal(all.data.length, names.length);
    const rows = rowsOf(all);
    for (const columns of [[...names].reverse(), ...names.map((name) => [name])]) {
      const answer = guest.table(table.name, { columns });
      assert.deepEqual(
        answer.columns.map(({ name }) => name),
        columns,
      );
      const expected = rows.map((row) => Object.fromEntries(columns.map((name) => [name, row[name]])));
      assert.deepEqual(rowsOf(answer), expected, `${table.name} ${columns}`);
    }
  }
});

test("a column that is named twice is a mistake", () => {
  assert.throws(() => processes({ columns: ["pid", "name", "pid"] }), { kind: "bad-request", message: /'pid'/ });
});

test("no columns at all are all columns", () => {
  assert.equal(guest.table("memory_map", { columns: [] }).columns.length, 5);
});

test("constraints on keys, on integers, on text, several at once", () => {
  const where = (column: string, ...values: string[]) => ({ column, values });
  assert.deepEqual(pids({}), everyPid);
  assert.deepEqual(pids({ where: [where("pid", "300", "1", "7")] }), [1, 300]);
  assert.deepEqual(pids({ where: [where("pid", "0300")] }), [300]);
  assert.deepEqual(pids({ where: [where("pid", "-1")] }), []);
  assert.deepEqual(pids({ where: [where("pid")] }), []);
  assert.deepEqual(pids({ where: [where("egid", "4294967294")] }), [300]);
  assert.deepEqual(pids({ where: [where("name", "init", "a-shell", "nobody")] }), [1, 300]);
  assert.deepEqual(pids({ where: [where("kernel_thread", "1"), where("name", "kthreadd")] }), [2]);
  assert.deepEqual(pids({ where: [where("pid", "1", "2"), where("pid", "2", "300")] }), [2]);
  const third = everyPid.filter((pid) => pid >= 1000 && pid % 7 === 3 && pid % 5 === 4);
  assert.deepEqual(pids({ where: [where("name", "worker3"), where("nice", "4")] }), third);
});

test("a constraint on a column that is not asked for works and does not show", () => {
  const query = { columns: ["name"], where: [{ column: "pid", values: ["300"] }] };
  assert.deepEqual(processes(query), [{ name: "a-shell" }]);
});

test("absent cells meet no constraint", () => {
  assert.deepEqual(pids({ where: [{ column: "path", values: [""] }] }), []);
  assert.deepEqual(pids({ where: [{ column: "total_size", values: ["0"] }] }), [300]);
});

test("numbers longer than any cell's are no mistake, and equal none", () => {
  assert.deepEqual(pids({ where: [{ column: "pid", values: ["9007199254740993", "-1234567890123456789"] }] }), []);
});

test("a limit ends the reading, with constraints and without", () => {
  for (const limit of [1, 2, 127, 128, 129, 602, 603, 604, 100_000]) {
    assert.deepEqual(pids({ limit }), everyPid.slice(0, limit));
    const where = [{ column: "nice", values: ["3"] }];
    const all = pids({ where });
    assert.deepEqual(pids({ limit, where }), all.slice(0, limit));
  }
  assert.deepEqual(pids({ limit: 0 }), everyPid);
  assert.equal(guest.table("process_envs", { limit: 3 }).rows, 3);
  assert.equal(guest.table("kernel_modules", { limit: 1 }).rows, 1);
  assert.equal(guest.table("memory_map", { limit: 2 }).rows, 2);
});

test("a limit spares work", () => {
  const budget = () => new Budget(60_000, 4000);
  assert.throws(() => guest.table("processes", {}, budget()), { kind: "over-budget" });
  const query = { columns: ["pid", "path"], limit: 1 };
  assert.equal(guest.table("processes", query, budget()).rows, 1);
});

test("a constraint on a key spares work", () => {
  const budget = () => new Budget(60_000, 4096);
  assert.throws(() => guest.table("process_threads", {}, budget()), { kind: "over-budget" });
  const query = { where: [{ column: "pid", values: ["300"] }] };
  assert.deepEqual(
    rowsOf(guest.table("process_threads", query, budget())).map(({ tid }) => tid),
    [300, 301],
  );
});

test("unknown names and values that are none are refused, with what there is", () => {
  const query = (query: TableQuery) => () => guest.table("processes", query);
  for (const name of ["pids", "", "constructor", "__proto__", "toString", "hasOwnProperty"]) {
    const unknown = { kind: "unknown-column", message: /it has pid, name, path/ };
    assert.throws(query({ columns: [name] }), unknown, name);
    assert.throws(query({ columns: ["pid", name] }), unknown, name);
    assert.throws(query({ where: [{ column: name, values: ["1"] }] }), unknown, name);
    assert.throws(() => guest.table(name), { kind: "unknown-table", message: /there are processes, / }, name);
  }
  for (const value of ["", "x", "1.5", "0x10", "1e3", " 1", "1 ", "+1", "--1", "1\n", "99999999999999999999"]) {
    const where = [{ column: "pid", values: ["1", value] }];
    assert.throws(query({ where }), { kind: "bad-request" }, JSON.stringify(value));
  }
  assert.deepEqual(pids({ where: [{ column: "name", values: ["", "1e3", "init"] }] }), [1]);
});

test("the time that a question may take is kept to", () => {
  for (const name of ["processes", "process_threads"]) {
    assert.throws(() => guest.table(name, {}, new Budget(-1)), { kind: "deadline" }, name);
  }
});

test("every table says what it is for those who ask", () => {
  const names = tables.map(({ name }) => name);
  assert.equal(new Set(names).size, names.length);
  for (const table of tables) {
    assert.match(table.name, /^[a-z][a-z_]*$/);
    assert.ok(table.description.length > 0 && table.examples.length > 0, table.name);
    for (const example of table.examples) assert.match(example, new RegExp(`(FROM|JOIN) ${table.name}\\b`));
    for (const [column, spec] of Object.entries(table.columns)) {
      assert.match(column, /^[a-z][a-z0-9_]*$/);
      assert.ok(spec.description.length > 0, `${table.name}.${column}`);
    }
  }
});
