import assert from "node:assert/strict";
import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import type { Command } from "commander";
import { buildProgram } from "./program.ts";
import { capture } from "./testing/capture.ts";
import { expiredToken, goodToken, vms } from "./testing/fake-service.ts";
import { loggedIn } from "./testing/logged-in.ts";

const at = loggedIn();
const cloudvmi = (...words: string[]) => capture(words, { env: at.env });
/** The command must fail with this code and one line. */
async function refused(words: string[], code: number, pattern: RegExp): Promise<void> {
  const answer = await cloudvmi(...words);
  assert.match(answer.err, pattern);
  assert.match(answer.err, /^cloudvmi: [^\n]+\n$/);
  assert.equal(answer.code, code);
}

test("every command explains itself, with examples where it does something", async () => {
  const program = buildProgram({
    out: { write: async () => {}, isTerminal: false, columns: 80 },
    err: { write: async () => {}, isTerminal: false, columns: 80 },
    stdin: process.stdin,
    env: {},
    entry: "",
    signal: new AbortController().signal,
  });
  const visit = async (command: Command, path: string[]): Promise<void> => {
    const { code, out, err } = await capture([...path, "--help"]);
    assert.deepEqual([code, err], [0, ""], path.join(" "));
    assert.ok(command.summary() !== "" || path.length === 0, path.join(" "));
    if (command.commands.length === 0) assert.match(out, /Examples:\n {2}\$ cloudvmi /, path.join(" "));
    for (const child of command.commands) await visit(child, [...path, child.name()]);
  };
  await visit(program, []);
});

test("login tries the token, stores it for this user alone, and the next commands use it", async () => {
  const ca = at.env.CLOUDVMI_CA!;
  at.env = { XDG_CONFIG_HOME: at.folder };
  const login = await capture(["login", at.service.url, "--ca", ca, "--token-stdin"], {
    env: at.env,
    stdin: `${goodToken}\n`,
  });
  assert.deepEqual([login.code, login.err], [0, ""]);
  assert.match(login.out, /as alice/);
  assert.ok(!login.out.includes(goodToken));
  assert.equal((await stat(join(at.folder, "cloudvmi", "config.json"))).mode & 0o777, 0o600);
  assert.match((await cloudvmi("whoami")).out, /user +alice\n.*analyst of shop/s);
  assert.equal((await cloudvmi("logout")).code, 0);
  await refused(["whoami"], 3, /not logged in: `cloudvmi login URL`/);
});

test("who logs out goes on as nobody, though another is logged in", async () => {
  const ca = at.env.CLOUDVMI_CA!;
  at.env = { XDG_CONFIG_HOME: at.folder, CLOUDVMI_CA: ca };
  for (const context of ["work", "mine"]) {
    const words = ["login", at.service.url, "--token-stdin", "--context", context];
    assert.equal((await capture(words, { env: at.env, stdin: `${goodToken}\n` })).code, 0);
  }
  assert.match((await cloudvmi("logout")).out, /\(context 'mine'\)\. Still logged in: --context work\.\n$/);
  await refused(["whoami"], 3, /not logged in/);
  assert.equal((await cloudvmi("whoami", "--context", "work")).code, 0);
  at.env.CLOUDVMI_CONTEXT = "wrok";
  await refused(["whoami"], 2, /there is no context 'wrok' \(there is: work\)/);
});

test("login stores nothing for a token that the service refuses", async () => {
  const file = join(at.folder, "token");
  await writeFile(file, expiredToken);
  await refused(["login", at.service.url, "--token-file", file], 3, /the token has expired: log in/);
  await assert.rejects(readFile(join(at.folder, "cloudvmi", "config.json")));
});

test("a service of an unknown authority is refused, with what to do", async () => {
  delete at.env.CLOUDVMI_CA;
  await refused(["login", at.service.url], 1, /copy ca\.pem/);
});

test("login says what is wrong with its arguments", async () => {
  await refused(["login", "http://127.0.0.1:1"], 2, /only speaks https/);
  await refused(["login", at.service.url, "--token-file", join(at.folder, "missing")], 1, /missing: no such file/);
  delete at.env.CLOUDVMI_TOKEN;
  await refused(["login", at.service.url], 2, /no token: give --token-file/);
  const two = await capture(["login", at.service.url, "--token-stdin"], { env: at.env, stdin: "two words" });
  assert.equal(two.code, 2);
});

test("vms and health", async () => {
  const { out } = await cloudvmi("vms");
  assert.match(
    out,
    /^name +project +host +status +memory +vcpus +labels +uuid\nweb1 +shop +host1 +running +1G +2 +tier=web/,
  );
  const rows = JSON.parse((await cloudvmi("vms", "--json")).out);
  assert.deepEqual(
    rows.map((row: { name: string }) => row.name),
    ["web1", "db1", "boot1"],
  );
  assert.equal(rows[0].memory_bytes, 2 ** 30);
  assert.deepEqual(JSON.parse((await cloudvmi("vms", "--project", "other", "--json")).out), []);
  assert.equal(JSON.parse((await cloudvmi("health", "--json")).out).ready, true);
});

test("ps of one VM: aligned, harmless, and says what is missing", async () => {
  const { code, out, err } = await cloudvmi("ps", "web1");
  assert.deepEqual([code, err], [0, ""]);
  assert.deepEqual(out.split("\n").slice(0, 4), [
    "pid  parent   uid  state  threads  resident_size  name          cmdline",
    "  1       0     0  S            1            12M  init          /sbin/init",
    "  2       0     0  S            1              0  kthreadd      -",
    " 77       1  1000  R            3          1024P  \\x1b[31m\\xff  (unreadable)",
  ]);
});

test("ps --json: exact integers, typed absence, every byte", async () => {
  const { out } = await cloudvmi("ps", "web1", "--json");
  const rows = JSON.parse(out);
  assert.equal(rows[1].cmdline, null);
  assert.deepEqual(rows[2].cmdline, { state: "unreadable" });
  assert.equal(rows[2].resident_size, "1152921504606846976");
  assert.equal(rows[2].name, "\x1b[31m\udcff");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  assert.doesNotMatch(out, /[\x00-\x09\x0b-\x1f\x7f-\x9f]/);
});

test("ps of all VMs spans the hosts; one that can't be read is a line, and the exit code", async () => {
  const { code, out, err } = await cloudvmi("ps", "--where", "pid=1");
  assert.match(out, /^vm +host +pid .*\nweb1 +host1 +1 .*\ndb1 +host2 +1 /);
  assert.match(err, /^cloudvmi: boot1 on host2: no Linux kernel runs there[^\n]*\ncloudvmi: 1 of 3 VMs[^\n]*\n$/);
  assert.equal(code, 4);
  const both = await cloudvmi("ps", "web1", "db1", "--json", "--limit", "1");
  assert.equal(both.code, 0);
  assert.deepEqual(new Set(JSON.parse(both.out).map((row: { vm: string }) => row.vm)), new Set(["web1", "db1"]));
  assert.deepEqual(at.service.asked.at(-1)?.limit, 1n);
});

test("a missing VM among several is a line, and the others answer", async () => {
  const { code, out, err } = await cloudvmi("ps", "web1", "nosuch");
  assert.match(out, /web1 +host1 +1 /);
  assert.match(err, /nosuch: there is no VM 'nosuch'/);
  assert.equal(code, 3);
});

test("columns, constraints and limits travel as they are given", async () => {
  await cloudvmi(
    "table",
    "processes",
    "--vm",
    "web1",
    "--columns",
    "pid,name",
    "--where",
    "uid=0",
    "--where",
    "uid=1000",
    "--limit",
    "5",
  );
  assert.deepEqual(at.service.asked, [
    { table: "processes", columns: ["pid", "name"], where: { uid: ["0", "1000"] }, limit: 5n },
  ]);
  await cloudvmi("threads", "web1", "--pid", "77");
  assert.deepEqual(at.service.asked.at(-1)?.where, { pid: ["77"] });
});

test("info of one VM is one object, of several a line each with what matters most", async () => {
  assert.match(
    (await cloudvmi("info", "web1")).out,
    /^version +6\.12\nhostname +shop\nboot_time +2026-11-23 09:00:00Z\nuptime +1d 01:01:01\npaging +4-level\nbuild_id +[0-9a-f]+\n$/,
  );
  assert.deepEqual(JSON.parse((await cloudvmi("info", "web1", "--json")).out), {
    version: "6.12",
    hostname: "shop",
    boot_time: 1_795_424_400,
    uptime: 90_061,
    paging: "4-level",
    build_id: "0123456789abcdef0123",
  });
  const several = (await capture(["info", "web1", "db1"], { env: at.env, terminal: 100 })).out.split("\n");
  assert.match(several[0]!, /^vm +host +hostname +version +boot_time +uptime +paging$/);
  assert.match(several[1]!, /^web1 +host1 +shop +6\.12 +2026-11-23 09:00:00Z +1d 01:01:01 +4-level$/);
});

test("a column reads as its table means it", async () => {
  assert.match((await cloudvmi("table", "time", "web1")).out, /^ *uptime\n1d 01:01:01\n$/);
  assert.match(
    (await cloudvmi("table", "kernel_log", "web1")).out,
    /\n0\.000000 +Linux version 6\.12\n6\.691235 +up\n$/,
  );
  assert.equal(JSON.parse((await cloudvmi("table", "kernel_log", "web1", "--json")).out)[1].time, 6_691_234_567);
});

test("tables lists names and columns", async () => {
  const tables = JSON.parse((await cloudvmi("tables", "web1", "--json")).out);
  assert.equal(tables[0].columns[0].type, "integer");
});

test("unknown VMs, tables and columns come with what was probably meant", async () => {
  await refused(["ps", "wbe1"], 3, /there is no VM 'wbe1': did you mean 'web1'\?/);
  await refused(["read", "nosuch", "0x1000"], 3, /there is no VM 'nosuch': `cloudvmi vms` lists yours/);
  await refused(["table", "proceses", "web1"], 2, /there is no table 'proceses': did you mean 'processes'\?/);
  await refused(["ps", "web1", "--columns", "pid,nmae"], 2, /has no column 'nmae': did you mean 'name'\?/);
  await refused(["ps", "boot1"], 4, /no Linux kernel runs there/);
});

test("read prints a hexdump, digits or bytes, from addresses and symbols", async () => {
  const dump = await cloudvmi("read", "web1", "init_task+0x10", "32");
  assert.match(dump.out, /^ffffffff81000020 {2}20 21 22 .*\nffffffff81000030 /s);
  assert.equal((await cloudvmi("read", "web1", "0xffffffff81000000", "4", "--hex")).out, "00010203\n");
  assert.equal((await cloudvmi("read", "web1", "0xffffffff81000041", "3", "--raw")).out, "ABC");
  const file = join(at.folder, "bytes");
  await cloudvmi("read", "web1", "0xffffffff81000000", "4K", "--output", file);
  assert.equal((await readFile(file)).length, 4096);
  assert.deepEqual(JSON.parse((await cloudvmi("read", "web1", "0xffffffff81000001", "2", "--json")).out), {
    address: "0xffffffff81000001",
    length: 2,
    data: "0102",
  });
});

test("read keeps what it could read, and refuses what can't be", async () => {
  const cut = await cloudvmi("read", "web1", "0xffffffff81000ff0", "32");
  assert.match(cut.out, /^ffffffff81000ff0 {2}f0 f1/);
  assert.match(cut.err, /only 16 of 32 bytes: 0xffffffff81001000: not mapped/);
  assert.equal(cut.code, 4);
  await refused(["read", "web1", "0x1000"], 4, /0x0000000000001000: not mapped/);
  await refused(["read", "web1", "0xzz"], 2, /0xzz/);
  await refused(["read", "web1", "nonsense"], 2, /'nonsense' is neither an address/);
  await refused(["read", "web1", "0x0", "17M"], 2, /over the limit of 16M/);
  await refused(["read", "web1", "0x0", "16", "--space", "user"], 2, /kernel, physical, pid:N/);
});

test("translate, symbol and registers", async () => {
  const { out, code } = await cloudvmi("translate", "web1", "0xffffffff81000fff", "0x1", "--json");
  assert.equal(code, 0);
  const rows = JSON.parse(out);
  assert.equal(rows[0].physical, "0x0000000000000fff");
  assert.equal(rows[1].error, "not mapped");
  assert.match((await cloudvmi("translate", "web1", "init_task")).out, /0x0000000000000010 +4K +kernel r-x/);
  assert.equal((await cloudvmi("translate", "web1", "0x1")).code, 4);

  const symbols = JSON.parse((await cloudvmi("symbol", "web1", "0xffffffff81000020", "init_task", "--json")).out);
  assert.deepEqual(
    symbols.map((row: { offset: number }) => row.offset),
    [16, 0],
  );
  assert.equal((await cloudvmi("symbol", "web1", "nosuch")).code, 3);
  const some = await cloudvmi("symbol", "web1", "init_task", "nosuch");
  assert.equal(some.code, 3);
  assert.match(some.out, /init_task/);
  assert.match(some.err, /^cloudvmi: not found in this kernel: nosuch: /);

  assert.match((await cloudvmi("registers", "web1")).out, /^register +vcpu 0\nr(?:ip|ax) +0x/);
});

test("type prints layouts and live objects", async () => {
  assert.equal(
    (await cloudvmi("type", "web1", "pair")).out,
    [
      "struct pair {  // 24 bytes",
      "       0  struct pair *next;",
      "     8:1  unsigned int flags : 3;",
      "      16    char name[8];",
      "}\n",
    ].join("\n"),
  );
  assert.match(
    (await cloudvmi("type", "web1", "side")).out,
    /^enum side \{ {2}\/\/ 4 bytes\n {2}LEFT = 0,\n {2}RIGHT = -1,\n\}\n$/,
  );
  const layout = JSON.parse((await cloudvmi("type", "web1", "pair", "--json")).out);
  assert.deepEqual([layout.size, layout.members[1].bit_offset, layout.members[0].bit_offset], [24, 1, undefined]);
  await refused(["type", "web1", "nothing"], 2, /no type 'nothing'/);

  assert.equal(
    (await cloudvmi("type", "web1", "pair", "--at", "init_task")).out,
    [
      "struct pair at 0xffffffff81000010 {  // 24 bytes",
      "       0  struct pair *next = 0xffffffff81000010;  // init_task",
      "     8:1  unsigned int flags : 3 = 5;",
      "      16    char name[8] (not in memory);",
      "}\n",
    ].join("\n"),
  );
  const object = JSON.parse((await cloudvmi("type", "web1", "pair", "--at", "0x10", "--process", "1", "--json")).out);
  assert.deepEqual(
    object.members.map(({ value, symbol, error }: Record<string, unknown>) => [value, symbol, error]),
    [
      ["0xffffffff81000010", "init_task", null],
      ["5", null, null],
      [null, null, "not in memory"],
    ],
  );
  await refused(["type", "web1", "nothing", "--at", "0x10"], 2, /no type 'nothing'/);
  await refused(["type", "web1", "pair", "--at", "0x10", "--depth", "99"], 2, /from 1 to 16/);
});

test("pause says how to resume, and resume takes the lease", async () => {
  assert.match((await cloudvmi("pause", "web1", "--seconds", "60")).out, /cloudvmi resume web1 --lease lease-1/);
  assert.deepEqual(JSON.parse((await cloudvmi("resume", "web1", "--lease", "lease-1", "--json")).out), {
    running: true,
  });
  await refused(["resume", "web1", "--lease", "other"], 3, /no such lease/);
  await refused(["pause", "web1", "--seconds", "301"], 2, /from 1 to 300/);
});

test("tokens: the secret alone on stdout", async () => {
  assert.deepEqual(await cloudvmi("token", "create", "--note", "ci"), { code: 0, out: "new-secret\n", err: "" });
  assert.match((await cloudvmi("token", "list")).out, /t1 +alice +expired/);
  assert.equal((await cloudvmi("token", "revoke", "t1")).code, 0);
  await refused(["token", "create", "--lifetime", "never"], 2, /12h or 30d/);
});

test("what is not allowed exits with 3, a token that is not valid too", async () => {
  await refused(["admin", "vms"], 3, /only operators/);
  at.env.CLOUDVMI_TOKEN = "wrong";
  await refused(["vms"], 3, /the token is not valid: log in/);
});

test("wrong usage exits with 2 and says where help is", async () => {
  await refused(["pss"], 2, /unknown command 'pss': did you mean ps\?/);
  await refused(["ps", "--nope"], 2, /unknown option '--nope'/);
  await refused(["read", "web1"], 2, /missing required argument 'address': see `cloudvmi read --help`/);
  await refused(["read", "web1", "1", "2", "3"], 2, /too many arguments/);
  await refused(["agent"], 2, /--config/);
  await refused(["local", "ps"], 2, /say which guest: --qmp SOCKET/);
  await refused(["local", "ps", "--qmp", "a", "--memory", "b"], 2, /only one guest/);
  assert.equal((await cloudvmi()).code, 2);
  assert.match((await cloudvmi("--version")).out, /^\d+\.\d+\.\d+\n$/);
});

test("on a terminal rows fit its width", async () => {
  const { out } = await capture(["table", "processes", "web1", "--columns", "pid,name,cmdline"], {
    env: at.env,
    terminal: 30,
  });
  for (const line of out.trimEnd().split("\n")) assert.ok(line.length <= 30, line);
  assert.match(out, /…/);
});

test("an interrupted command ends with 130", async () => {
  const interrupted = await capture(["ps"], { env: at.env, signal: AbortSignal.abort() });
  assert.equal(interrupted.code, 130);
});

test("the service out of reach is one line", async () => {
  at.env.CLOUDVMI_URL = "https://127.0.0.1:1";
  await refused(["vms"], 1, /can't reach 127\.0\.0\.1:1: connection refused/);
  assert.equal(vms.length, 3);
});

test("help of a command at any depth; of none that exists it is wrong usage", async () => {
  const create = await cloudvmi("help", "token", "create");
  assert.equal(create.code, 0);
  assert.match(create.out, /^Usage: cloudvmi token create/);
  const nonsense = await cloudvmi("help", "symbl");
  assert.equal(nonsense.code, 2);
  assert.match(nonsense.err, /^cloudvmi: cloudvmi has no command 'symbl': did you mean 'symbol'\?\n$/);
});

test("--verbose tells on stderr what a table took", async () => {
  assert.match((await cloudvmi("ps", "web1", "--verbose")).err, /processes: \d+ rows in \d+ µs, \d+ read again\n/);
});
