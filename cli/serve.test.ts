import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { readableLog } from "./commands/up.ts";
import { capture } from "./testing/capture.ts";
import { prepare } from "./up-config.ts";

let folder = "";
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "cloudvmi-serve-"));
});
afterEach(() => rm(folder, { recursive: true }));

async function refused(words: string[], code: number, pattern: RegExp): Promise<void> {
  const answer = await capture(words);
  assert.match(answer.err, pattern);
  assert.match(answer.err, /^cloudvmi: [^\n]+\n$/);
  assert.equal(answer.code, code);
}

test("a configuration with a wrong key is wrong usage, and names file and key", async () => {
  const file = join(folder, "wrong.toml");
  await writeFile(file, `state = "${folder}"\nlisten = "tls://127.0.0.1:0"\nlisten_on = "x"\n`);
  await refused(["control", "--config", file], 2, /wrong\.toml: .*listen_on/);
  await writeFile(file, `state = "${folder}"\nlisten = "unix:${folder}/agent.sock"\nlisten_on = "x"\n`);
  await refused(["agent", "--config", file], 2, /wrong\.toml.*listen_on/);
  await writeFile(file, "state = [");
  await refused(["control", "--config", file], 2, /wrong\.toml: not TOML/);
  await refused(["control", "--config", join(folder, "missing.toml")], 2, /missing\.toml/);
});

test("up refuses what can't work before it starts anything", async () => {
  await refused(["up", "--state", folder, "--listen", "nonsense"], 2, /--listen nonsense: write host:port/);
  await refused(["up", "--state", folder, "--allow-missing", "walls"], 2, /some of namespaces,uid,seccomp/);
  await refused(["up", "--state", join(folder, "x".repeat(120))], 2, /too long a path for a socket/);
});

test("up writes its configurations once, and later changes only what it is told", async () => {
  const { loadAgentConfig } = await import("../agent/index.ts");
  const { loadControlConfig } = await import("../control/index.ts");
  const files = await prepare(folder, { name: "host1" });
  assert.deepEqual(loadAgentConfig(files.agent).listen, { kind: "unix", path: join(folder, "agent.sock") });
  assert.deepEqual(loadControlConfig(files.control).listen, { host: "127.0.0.1", port: 7443 });
  await writeFile(files.agent, `${await readFile(files.agent, "utf8")}# the operator's\n`);

  await prepare(folder, { listen: "127.0.0.1:7555", allowMissing: ["uid"] });
  assert.equal(loadControlConfig(files.control).listen.port, 7555);
  assert.deepEqual(
    loadControlConfig(files.control).agents.map(({ name }) => name),
    ["host1"],
  );
  assert.deepEqual(loadAgentConfig(files.agent).sandbox.allowMissing, ["uid"]);
  assert.match(await readFile(files.agent, "utf8"), /# the operator's/);

  await writeFile(files.control, `${await readFile(files.control, "utf8")}[[agent]]\nname = "host2"\n`);
  await refused(
    ["up", "--state", folder, "--name", "other"],
    2,
    /control\.toml is not as `up` wrote it: change name there/,
  );
});

test("up leaves the configuration of one that runs alone", async () => {
  const files = await prepare(folder, { listen: "127.0.0.1:7555" });
  const before = await readFile(files.control, "utf8");
  const running = createServer().listen(join(folder, "agent.sock"));
  try {
    await once(running, "listening");
    await refused(
      ["up", "--state", folder, "--listen", "127.0.0.1:1"],
      2,
      /`cloudvmi up` runs with .* already: end that/,
    );
    assert.equal(await readFile(files.control, "utf8"), before);
  } finally {
    running.close();
  }
});

test("certificates: one authority, a pair for control and one for each host", async () => {
  const create = (...agents: string[]) => capture(["admin", "certificates", "create", folder, "--agent", ...agents]);
  const { code, err } = await create("host1.example,10.0.0.1", "host2.example");
  assert.deepEqual([code, err], [0, ""]);
  const read = async (name: string) => new X509Certificate(await readFile(join(folder, name)));
  const [ca, control, host1] = await Promise.all([read("ca.pem"), read("control.pem"), read("host1.example.pem")]);
  for (const certificate of [control, host1]) assert.ok(certificate.verify(ca.publicKey));
  assert.equal(host1.checkHost("host1.example"), "host1.example");
  assert.equal(host1.checkIP("10.0.0.1"), "10.0.0.1");
  assert.equal(control.checkHost("host1.example"), undefined);
  assert.equal((await stat(join(folder, "ca.key"))).mode & 0o777, 0o600);

  assert.equal((await create("host3.example")).code, 0);
  assert.equal((await read("ca.pem")).fingerprint256, ca.fingerprint256);
  assert.equal((await read("control.pem")).fingerprint256, control.fingerprint256);
  assert.ok((await read("host3.example.pem")).verify(ca.publicKey));
  await refused(["admin", "certificates", "create", folder, "--agent", "../up"], 2, /write the host's name/);
});

test("up shows people what control logs for machines, routine only when asked", () => {
  const info = '{"time":"2026-11-23T09:45:30.290Z","level":"info","event":"agent connected","agent":"host1","vms":3}';
  assert.equal(readableLog(info, false), undefined);
  assert.equal(readableLog(info, true), "control: agent connected agent=host1 vms=3");
  assert.equal(readableLog(info.replace("info", "warn"), false), "control: agent connected agent=host1 vms=3");
  assert.equal(readableLog("agent host1: a line", false), "agent host1: a line");
  assert.equal(readableLog("{ cut", false), "{ cut");
});
