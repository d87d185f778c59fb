import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { capture } from "./testing/capture.ts";
import { found, hooked, incomplete, loaded } from "./testing/fake-findings.ts";
import { type FakeService, goodToken, startFakeService } from "./testing/fake-service.ts";

let service: FakeService;
let folder = "";
let env: NodeJS.ProcessEnv = {};
const asFound = [...found.web1];
before(async () => {
  service = await startFakeService();
});
after(() => service[Symbol.asyncDispose]());
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "cloudvmi-checks-"));
  const ca = join(folder, "ca.pem");
  await writeFile(ca, service.ca);
  env = { XDG_CONFIG_HOME: folder, CLOUDVMI_URL: service.url, CLOUDVMI_TOKEN: goodToken, CLOUDVMI_CA: ca };
  found.web1 = [...asFound];
  incomplete.web1 = [];
});
afterEach(() => rm(folder, { recursive: true }));

const checks = (...words: string[]) => capture(["checks", ...words], { env });

test("findings are shown with all that is needed to act, within 100 columns, and the exit code is 5", async () => {
  const { code, out, err } = await checks("web1");
  assert.equal(code, 5);
  assert.equal(
    out,
    `CRITICAL (1)
  system call 62 (kill) goes to lab_kill of module lab_tricks
    check      system-call-table
    where      sys_call_table[62]
    evidence   0xffffffffc0401000
    expected   0xffffffff81098760, __x64_sys_kill
    leads to   0xffffffffc0401000, lab_kill of module lab_tricks
    found      0xffffffff81098760  48b8001040c0ffffffff  movabs rax, 0xffffffffc0401000
               0xffffffff8109876a  50                    push rax
               0xffffffff8109876b  c3                    ret
    original   0xffffffff81098760  f30f1efa    endbr64
               0xffffffff81098764  0f1f440000  nop dword ptr [rax + rax]
               0xffffffff81098769  06          .byte 0x06
`,
  );
  assert.equal(err, "cloudvmi: 1 finding (1 critical), 1 for information; --all shows them (2 checks, 41 ms)\n");
});

test("--all shows what is no alarm too, in a line each", async () => {
  const { out } = await checks("web1", "--all");
  assert.match(out, /\n\nINFO \(1\)\n {2}inventory: module loop is loaded\n$/);
});

test("a clean VM is a line on stderr, and nothing on stdout", async () => {
  assert.deepEqual(await checks("db1"), {
    code: 0,
    out: "",
    err: "cloudvmi: no finding, 1 for information; --all shows them (2 checks, 41 ms)\n",
  });
});

test("a guest's words are broken into lines, and harmless", async () => {
  found.web1 = [{ ...hooked, what: `process \u001b[31m ${"very ".repeat(40)}${"x".repeat(150)}` }];
  const { out } = await checks("web1");
  assert.ok(out.split("\n").every((line) => line.length <= 100));
  assert.match(out, /process \\x1b\[31m very/);
  assert.equal(out.replaceAll(/[^x]/g, "").match(/x{150}/)?.length, 1);
});

test("--json is one array of rows, those that people see", async () => {
  const rows = JSON.parse((await checks("web1", "--json")).out);
  assert.deepEqual(rows, [hooked]);
  const all = await checks("db1", "--json");
  assert.deepEqual([all.code, JSON.parse(all.out)], [0, []]);
  assert.deepEqual(JSON.parse((await checks("db1", "--json", "--all")).out), [loaded("loop")]);
});

test("several VMs: each finding says whose it is, and what could not be read is said", async () => {
  const { code, out, err } = await checks();
  assert.equal(code, 5);
  assert.match(out, /^ {4}check {6}web1, system-call-table$/m);
  assert.match(err, /^cloudvmi: boot1 on host2: no Linux kernel runs there/m);
  assert.match(err, /1 finding \(1 critical\), 2 for information; --all shows them \(2 checks of 2 VMs, 41 ms\)\n$/);
  found.web1 = [];
  assert.equal((await checks()).code, 4);
  const rows = JSON.parse((await checks("web1", "db1", "--all", "--json")).out);
  assert.deepEqual([rows.length, rows[0].vm, rows[0].host], [1, "db1", "host2"]);
});

test("--check asks for that check alone, and names the one that was meant", async () => {
  service.asked.length = 0;
  assert.equal((await checks("web1", "--check", "inventory")).code, 0);
  assert.deepEqual(service.asked.find(({ table }) => table === "findings")?.where, { check_name: ["inventory"] });
  const wrong = await checks("web1", "--check", "inventry");
  assert.deepEqual([wrong.code, wrong.out], [2, ""]);
  assert.equal(wrong.err, "cloudvmi: there is no check 'inventry': did you mean 'inventory'?\n");
});

test("--list and --explain", async () => {
  assert.match((await checks("--list")).out, /^name +severity +cost +compares\nsystem-call-table +critical +walk/);
  const { code, out } = await checks("web1", "--explain", "system-call-table");
  assert.equal(code, 0);
  assert.match(out, /^system-call-table: severity critical at worst, cost walk\n\ncompares\n {2}What system/);
  assert.match(out, /\n\nmisses\n {2}Much\.\n\nconfirm\n {2}By hand\.\n\nreads\n {2}sys_call_table\n$/);
  assert.ok(out.split("\n").every((line) => line.length <= 100));
  assert.equal(JSON.parse((await checks("--explain", "inventory", "--json")).out).severity, "info");
  assert.equal((await checks("--explain", "inventry")).code, 2);
});

test("a baseline takes what is there, and what comes and goes later is reported", async () => {
  const file = join(folder, "baseline.json");
  const record = await checks("web1", "--record", file);
  assert.equal(record.code, 0);
  assert.match(record.out, /system call 62/);
  assert.match(record.err, /recorded in .*baseline\.json: 2 findings, 1 of them above info/);
  const same = await checks("web1", "--baseline", file);
  assert.deepEqual([same.code, same.out], [0, ""]);
  assert.match(same.err, /nothing new since the baseline/);

  found.web1 = [hooked, loaded("evil")];
  const changed = await checks("web1", "--baseline", file);
  assert.equal(changed.code, 5);
  assert.match(changed.out, /^LOW \(1\)\n {2}not in the baseline: module evil is loaded\n/);
  assert.match(changed.out, /INFO \(1\)\n {2}inventory: gone since the baseline: module loop is loaded\n$/);
  // What did not look says nothing of what is gone.
  const part = await checks("web1", "--baseline", file, "--check", "system-call-table", "--json");
  assert.ok(!part.out.includes("gone since the baseline: module"));
});

test("what became worse than the baseline has it is reported, what became better is not", async () => {
  const file = join(folder, "baseline.json");
  const known = loaded("loop");
  // Two processes of one program: the worse of the two is what is accepted.
  found.web1 = [{ ...known, severity: "low" }, known, { ...hooked, severity: "medium" }];
  await checks("web1", "--record", file);
  found.web1 = [
    { ...known, severity: "low" },
    { ...hooked, severity: "high" },
  ];
  const worse = await checks("web1", "--baseline", file);
  assert.equal(worse.code, 5);
  assert.match(worse.out, /^HIGH \(1\)\n {2}was medium in the baseline: system call 62 \(kill\)/);
  assert.ok(!worse.out.includes("module loop"));
  found.web1 = [known, { ...hooked, severity: "info" }];
  assert.equal((await checks("web1", "--baseline", file)).code, 0);
});

test("of an incomplete answer nothing is recorded, and a check that could not look tells of nothing that is gone", async () => {
  const file = join(folder, "baseline.json");
  await checks("web1", "--record", file);
  const good = await readFile(file, "utf8");
  found.web1 = [];
  incomplete.web1 = ["inventory: the list has no end"];
  const refused = await checks("web1", "--record", file);
  assert.deepEqual([refused.code, refused.out], [4, ""]);
  assert.match(
    refused.err,
    /\ncloudvmi: not recorded, as what was found is incomplete \(see above\): record again, or with --check/,
  );
  assert.equal(await readFile(file, "utf8"), good);
  const gone = await checks("web1", "--baseline", file);
  assert.match(gone.out, /gone since the baseline: system call 62/);
  assert.ok(!gone.out.includes("module loop"));
  // A note that names no check may be about all of them.
  incomplete.web1 = ["inventory: the list has no end", "it kept changing"];
  assert.ok(!(await checks("web1", "--baseline", file)).out.includes("gone since"));
  // Of several VMs those are recorded whose answer is whole.
  const both = await checks("web1", "db1", "--record", file);
  assert.equal(both.code, 4);
  assert.match(both.err, /recorded in .*: 1 findings, 0 of them above info.*\n.*not recorded: web1, as /);
  assert.deepEqual(
    JSON.parse(await readFile(file, "utf8")).entries.map(({ name }: { name: string }) => name),
    ["web1", "db1"],
  );
});

test("nothing found by checks that could not look at everything is no clean bill", async () => {
  found.web1 = [];
  incomplete.web1 = ["inventory: the list has no end"];
  const gate = await checks("web1");
  assert.deepEqual([gate.code, gate.out], [4, ""]);
  assert.match(
    gate.err,
    /inventory: the list has no end\ncloudvmi: no finding, but the answer is incomplete \(see above\)/,
  );
  // Of several VMs one suffices; a finding counts for more.
  assert.equal((await checks("web1", "db1")).code, 4);
  found.web1 = [hooked];
  assert.equal((await checks("web1")).code, 5);
});

test("--record with --check records that check anew, and keeps the others", async () => {
  const file = join(folder, "baseline.json");
  await checks("web1", "--record", file);
  found.web1 = [loaded("loop")];
  assert.equal((await checks("web1", "--record", file, "--check", "system-call-table")).code, 0);
  const [entry] = JSON.parse(await readFile(file, "utf8")).entries;
  assert.deepEqual([...entry.checks].sort(), ["inventory", "system-call-table"]);
  assert.deepEqual(
    entry.findings.map(({ identity }: { identity: string }) => identity),
    ["module loop"],
  );
});

test("a baseline keeps each VM and each build apart, and says when it has none", async () => {
  const file = join(folder, "baseline.json");
  const both = ["web1", "db1"];
  await checks(...both, "--record", file);
  const read = async () => JSON.parse(await readFile(file, "utf8"));
  const kept = await read();
  assert.deepEqual(
    kept.entries.map(({ name, kernel }: { name: string; kernel: object }) => [name, kernel]),
    both.map((name) => [name, { release: "6.12", build_id: "0123456789abcdef0123" }]),
  );
  // Of another build, which is kept beside the one that is recorded anew.
  kept.entries[0].kernel.build_id = "ffff";
  await writeFile(file, JSON.stringify(kept));
  const other = await checks("web1", "--baseline", file);
  assert.equal(other.code, 5);
  assert.match(other.err, /web1 runs kernel 6\.12 \(build id 0123456789ab\), and the baseline has it with/);
  found.web1 = [];
  assert.equal((await checks("web1", "--baseline", file)).code, 2);
  await checks("web1", "--record", file);
  assert.equal((await read()).entries.length, 3);
  assert.equal((await checks("web1", "--baseline", file)).code, 0);
  await checks("web1", "--record", file);
  assert.equal((await read()).entries.length, 3);
});

test("what is no baseline is refused before a guest is asked", async () => {
  const file = join(folder, "baseline.json");
  const refused = async (text: string | undefined, about: RegExp) => {
    if (text !== undefined) await writeFile(file, text);
    service.asked.length = 0;
    const { code, err } = await checks("web1", "--baseline", file);
    assert.equal(code, 2);
    assert.match(err, about);
    assert.deepEqual(service.asked, []);
  };
  await refused(undefined, /there is no such baseline/);
  await refused("{", /is not JSON/);
  await refused("[]", /is no baseline/);
  await refused('{"cloudvmi_baseline": 2, "entries": []}', /of version 2, and this program knows 1/);
  await refused('{"cloudvmi_baseline": 1, "entries": [{}]}', /damaged/);
  assert.equal((await checks("web1", "--record", file, "--baseline", file)).code, 2);
});
