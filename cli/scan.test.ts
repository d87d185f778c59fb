import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { readRules } from "./rule-files.ts";
import { capture } from "./testing/capture.ts";
import { type FakeService, goodToken, startFakeService } from "./testing/fake-service.ts";

let folder: string;
let service: FakeService;
const env: NodeJS.ProcessEnv = {};
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "cloudvmi-scan-"));
  service = await startFakeService();
  const ca = join(folder, "ca.pem");
  await writeFile(ca, service.ca);
  await writeFile(join(folder, "one.yar"), "rule one { condition: true }");
  Object.assign(env, {
    XDG_CONFIG_HOME: folder,
    CLOUDVMI_URL: service.url,
    CLOUDVMI_TOKEN: goodToken,
    CLOUDVMI_CA: ca,
  });
});
after(async () => {
  await service[Symbol.asyncDispose]();
  await rm(folder, { recursive: true });
});

const scan = (...words: string[]) => capture(["scan", ...words], { env });
const one = () => join(folder, "one.yar");

test("matches for people: what, where, and what lies there, harmless for a terminal", async () => {
  const { code, out, err } = await scan("web1", "--rules", one(), "--process", "7", "--pid", "8", "--limit", "4");
  assert.equal(code, 0);
  const lines = out.split("\n");
  const mapping = "0x0000555500000000-0x0000555500002000";
  assert.equal(
    lines[0],
    `one.yar:found [lab] $a: pid 77 \\x1b[31m, anonymous memory ${mapping} rw-p, 4 bytes at 0x0000555500000ffb`,
  );
  assert.match(lines[1]!, /^ {2}0000555500000feb {2}62 65 66 .*\|before the .\[31m\|$/);
  assert.match(out, /^one\.yar:found \[lab\] \$a: the kernel's image, linux_banner, 4 bytes at /m);
  assert.match(out, /^one\.yar:found \[lab\] \$a: \/a \(deleted\), inode 9 on /m);
  assert.match(out, /^one\.yar:found \[lab\]: physical memory, /m);
  assert.match(err, /scanned 8K in 1\.5 s: 4 matches\n/);
  assert.match(err, /stopped before the end after 4 matches: --limit allows more/);
  assert.match(err, /asked 1 7\+8 4 0 0/);
});

test("matches for programs have the same columns whatever was scanned; limits are passed on", async () => {
  const words = ["web1", "--rules", one(), "--physical", "--max-bytes", "1M", "--timeout", "2m", "--json"];
  const { out, err } = await scan(...words);
  assert.match(err, /asked 4 {2}0 1048576 120000/);
  const rows: Record<string, unknown>[] = JSON.parse(out);
  assert.deepEqual(
    rows.map(({ place }) => place),
    ["process", "kernel", "file", "physical"],
  );
  assert.equal(new Set(rows.map((row) => Object.keys(row).join())).size, 1);
  const { before: preceding, data, meta, pid, address } = rows[0]!;
  assert.deepEqual([preceding, data], [hex("before the \x1b[31m"), hex("needle")]);
  assert.deepEqual([meta, pid, address], ['{"level":"3"}', 77, "0x0000555500000ffb"]);
});
const hex = (text: string) => Buffer.from(text).toString("hex");

test("wrong rules, and wrong usage: one line, exit code 2, nothing printed", async () => {
  const wrong = join(folder, "wrong.yara");
  await writeFile(wrong, " wrong");
  for (const [words, message] of [
    [["--rules", wrong], /wrong\.yara:1:2: syntax error/],
    [["--rules", one(), "--kernel", "--physical"], /cannot be used with/],
    [["--rules", one(), "--kernel", "--process", "7"], /--process goes with --processes only/],
    [["--rules", one(), "--timeout", "2h"], /up to 1h/],
    [["--rules", one(), "--limit", "0"], /from 1 to 100000/],
    [[], /--rules/],
  ] as const) {
    const { code, out, err } = await scan("web1", ...words);
    assert.equal(code, 2, err);
    assert.equal(out, "");
    assert.match(err, message);
  }
  assert.equal((await scan("web1", "--rules", join(folder, "missing"))).code, 1);
  assert.equal((await scan("nobody", "--rules", one())).code, 3);
});

test("a folder: every file of rules in it and below, by name", async () => {
  const rules = join(folder, "rules");
  await mkdir(join(rules, "below"), { recursive: true });
  for (const name of ["b.yar", "a.YARA", "below/c.yar", "notes.txt"]) await writeFile(join(rules, name), `// ${name}`);
  assert.deepEqual(await readRules(rules), [
    { name: "a.YARA", source: "// a.YARA" },
    { name: "b.yar", source: "// b.yar" },
    { name: "below/c.yar", source: "// below/c.yar" },
  ]);
  await writeFile(join(rules, "latin1.yar"), Buffer.from([0xe4]));
  await assert.rejects(readRules(rules), /latin1\.yar is not UTF-8/);
  await rm(rules, { recursive: true });
  await mkdir(rules);
  await assert.rejects(readRules(rules), /there is no \*\.yar or \*\.yara file in it/);
});
