import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { ColumnType, TableSpecSchema } from "../proto/gen/cloudvmi/v1/guest_pb.ts";
import { completions } from "./sql-completion.ts";
import { dotCommand } from "./sql-shell.ts";
import { inOneLine, splitStatements } from "./sql-statements.ts";
import { capture } from "./testing/capture.ts";
import { type FakeService, goodToken, startFakeService } from "./testing/fake-service.ts";

let service: FakeService;
let env: NodeJS.ProcessEnv;
let folder: string;
before(async () => {
  service = await startFakeService();
  env = { CLOUDVMI_URL: service.url, CLOUDVMI_TOKEN: goodToken, HOME: "/nonexistent" };
  folder = mkdtempSync(join(tmpdir(), "cloudvmi-sql-"));
  env.CLOUDVMI_CA = join(folder, "ca.pem");
  writeFileSync(env.CLOUDVMI_CA, service.ca);
});
after(async () => {
  rmSync(folder, { recursive: true });
  await service?.[Symbol.asyncDispose]();
});

test("rows are printed, then which VMs could not answer and why, and the exit code says so", async () => {
  const { code, out, err } = await capture(["sql", "SELECT vm, n FROM t"], { env });
  assert.equal(out, "vm    n\nweb1  1\ndb1   -\n");
  const lacks =
    "cloudvmi: db1: t is incomplete: it kept changing\n" +
    "cloudvmi: boot1: no Linux kernel runs there\n" +
    "cloudvmi: 1 more could not be listed here\n";
  const last = "cloudvmi: 1 of 3 VMs could not be read (see above)\n";
  assert.equal(err, lacks + last);
  assert.equal(code, 4);
  const verbose = await capture(["sql", "SELECT vm, n FROM t", "--verbose"], { env });
  const told =
    "cloudvmi: read 2 rows of t (n) by pid from 3 VMs, 5 walks begun again\n" +
    "cloudvmi: 2 rows in 7 µs, 5 walks begun again\n";
  assert.ok(verbose.err.startsWith(lacks + told + last), verbose.err);
});

test("with --json they are part of the object, after the rows", async () => {
  const { code, out, err } = await capture(["sql", "SELECT vm, n FROM t", "--json"], { env });
  assert.deepEqual(JSON.parse(out), {
    columns: ["vm", "n"],
    rows: [
      { vm: "web1", n: 1 },
      { vm: "db1", n: null },
    ],
    failures: [{ vm: "boot1", table: "", code: "failed_precondition", message: "no Linux kernel runs there" }],
    notes: [{ vm: "db1", table: "t", note: "it kept changing" }],
    unlisted: 1,
    vms: 3,
    retried: 5,
    reads: [{ table: "t", columns: ["n"], where: ["pid"], vms: 3, rows: 2, retried: 5 }],
    microseconds: 7,
  });
  assert.match(out, /\n\{"vm":"web1","n":1\},\n\{"vm":"db1","n":null\}\n\]/, "one row a line");
  assert.equal(code, 4);
  assert.match(err, /boot1: no Linux kernel runs there/);
});

test("a statement that is wrong is one line, and exit code 2", async () => {
  const { code, out, err } = await capture(["sql", "SELEC", "--json"], { env });
  assert.deepEqual({ code, out, err }, { code: 2, out: "", err: 'cloudvmi: near "SELEC": syntax error\n' });
  const bare = await capture(["sql"], { env });
  assert.equal(bare.code, 2);
  assert.match(bare.err, /^cloudvmi: say what to ask[^\n]+\n$/);
});

test("statements come from the standard input, each ended by ';'", async () => {
  const { code, out } = await capture(["sql", "-", "--vm", "web1"], { env, stdin: "SELECT 'a;b';\nSELECT 2\n" });
  assert.equal(code, 0);
  assert.equal(out, "statement\nSELECT 'a;b'\nstatement\nSELECT 2\n");
});

test("a statement ends at its ';', and at none in a text, a name or a comment", () => {
  assert.deepEqual(splitStatements("a; b\n;c"), { statements: ["a", "b"], rest: "c" });
  const text = `SELECT ';', 'it''s;', ";", [;], \`;\` -- ;\n/* ; */, 1`;
  assert.deepEqual(splitStatements(`${text}; `), { statements: [text], rest: " " });
  assert.deepEqual(splitStatements("SELECT ';"), { statements: [], rest: "SELECT ';" });
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom("'", '"', ";", "-", "/", "*", "\n", "a", "[", "]", "`") }), (any) => {
      const { statements, rest } = splitStatements(any);
      assert.ok(statements.every((each) => any.includes(each)) && any.endsWith(rest));
    }),
  );
});

const specs = [
  { name: "processes", columns: ["pid", "name", "parent"] },
  { name: "process_envs", columns: ["pid", "key"], required: ["pid"] },
].map(({ columns, ...spec }) =>
  create(TableSpecSchema, { ...spec, columns: columns.map((name) => ({ name, type: ColumnType.TEXT })) }),
);

test("tables, columns and keywords complete", () => {
  const of = (line: string) => completions(specs, line)[0];
  assert.deepEqual(of("SELECT * FROM proc"), ["process_envs", "processes"]);
  assert.deepEqual(of("SELECT * FROM processes WHERE p"), ["parent", "pid", "process_envs", "processes"]);
  assert.deepEqual(of("SELECT * FROM processes p JOIN process_envs e ON p.p"), ["p.parent", "p.pid"]);
  assert.deepEqual(of("SELECT 1 FROM processes p;\nSELECT * FROM process_envs e\nWHERE e.k"), ["e.key"]);
  assert.deepEqual(of("SELECT p.name\nFROM processes AS p\nWHERE p.pa"), ["p.parent"]);
  assert.deepEqual(of("SELECT * FROM\nproc"), ["process_envs", "processes"]);
  assert.deepEqual(of("sel"), ["select"]);
  assert.deepEqual(of("SEL"), ["SELECT"]);
  assert.deepEqual(of("Sel"), ["SELECT"]);
  assert.deepEqual(of("SELECT * FROM Proc"), ["process_envs", "processes"]);
  assert.deepEqual(of("SELECT PA"), ["parent"]);
  assert.deepEqual(of("SELECT p.NAME FROM PROCESSES P WHERE p.Pa"), ["p.parent"]);
  assert.deepEqual(of("SELECT * FROM Process_Envs WHERE K"), ["key"]);
  assert.deepEqual(of(".schema Process_"), ["process_envs"]);
  assert.deepEqual(of(".s"), [".schema"]);
  assert.deepEqual(of(".schema process_"), ["process_envs"]);
  assert.deepEqual(of(""), []);
});

test("commands of the shell", () => {
  assert.equal(dotCommand(".tables", undefined, specs), "processes\nprocess_envs\n");
  assert.match(
    dotCommand(".schema", "process_envs", specs),
    /Needs WHERE with pid\.\nCREATE TABLE process_envs \(\n {2}vm TEXT,/,
  );
  assert.match(dotCommand(".help", undefined, specs), /\.quit/);
  assert.throws(() => dotCommand(".schema", "proceses", specs), /did you mean 'processes'\?/);
  assert.throws(() => dotCommand(".tabels", undefined, specs), /no command \.tabels/);
});

test("statements become one line where that changes nothing", () => {
  assert.equal(inOneLine("SELECT 1, -- one\n  2\n/* a\nb */ FROM t;"), "SELECT 1, 2 FROM t;");
  assert.equal(inOneLine("SELECT '-- no\t;';\n SELECT 2;"), "SELECT '-- no\t;'; SELECT 2;");
  for (const text of ["SELECT 'a\nb';", 'SELECT "a\nb";', "SELECT [a\nb];"]) assert.equal(inOneLine(text), undefined);
});
