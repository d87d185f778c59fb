// Whatever a user gets wrong is one line that says what and what to do, with the right exit code, and harms nobody else.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { copyFileSync, truncateSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, afterEach, before, describe, test } from "node:test";
import { type CliResult, type Cluster, program, startCluster } from "../../demo/cluster.ts";
import { assertOneLine, json } from "./support.ts";

let cluster: Cluster;
before(async () => {
  const spec = {
    hosts: { host1: { web1: { project: "acme", guest: { kernel: "6.12", ram: "file" } } } },
    users: { alice: { project: "acme", role: "responder" } },
  } as const;
  cluster = await startCluster(spec, (line) => console.log(line));
});
after(() => cluster?.[Symbol.asyncDispose]());

// After every mistake the service is as it was.
afterEach(async () => {
  assert.ok((await json(cluster, "alice", ["ps", "web1"])).length > 10);
});

const mistakes: [what: string, args: string[], code: number, about: RegExp][] = [
  ["an unknown VM", ["ps", "web9"], 3, /web9/],
  ["a UUID of no VM", ["info", "00000000-0000-4000-8000-000000000000"], 3, /00000000-0000-4000-8000-000000000000/],
  ["an unknown table", ["table", "proceses", "web1"], 2, /proceses/],
  ["an unknown column", ["ps", "web1", "--columns", "pid,nam"], 2, /nam/],
  ["an unknown column in a condition", ["ps", "web1", "--where", "nam=x"], 2, /nam/],
  ["a condition that is none", ["ps", "web1", "--where", "name"], 2, /column=value/],
  ["a column twice", ["ps", "web1", "--columns", "pid,pid"], 2, /pid/],
  ["text where a number belongs", ["ps", "web1", "--where", "pid=init"], 2, /pid/],
  ["a malformed address", ["read", "web1", "0xzz"], 2, /0xzz/],
  ["an address beyond 64 bits", ["read", "web1", "0x1ffffffffffffffff"], 2, /0x1ffffffffffffffff/],
  ["an unknown symbol", ["read", "web1", "no_such_symbol"], 2, /no_such_symbol/],
  ["an address where nothing is", ["read", "web1", "0xdead000000000000"], 4, /0xdead000000000000/],
  ["a range over the limit", ["read", "web1", "linux_banner", "1G"], 2, /limit/],
  ["a lease over the limit", ["pause", "web1", "--seconds", "301"], 2, /300/],
  ["a lease that isn't one", ["resume", "web1", "--lease", "0123456789abcdef"], 3, /pause/],
  ["an unknown command", ["psx"], 2, /psx/],
  ["an unknown option", ["ps", "--jsn"], 2, /--jsn/],
  ["a context that isn't there", ["ps", "--context", "nobody"], 2, /nobody/],
];

describe("the command line", () => {
  for (const [what, args, code, about] of mistakes) {
    test(what, async () => {
      assertOneLine(await cluster.cli("alice", args), code, about, args.join(" "));
    });
  }
});

describe("tokens", () => {
  const ps = (token: string) =>
    cluster.cli("alice", ["ps"], { CLOUDVMI_URL: cluster.url, CLOUDVMI_CA: cluster.caFile, CLOUDVMI_TOKEN: token });

  test("no token of ours", async () => {
    assertOneLine(await ps("secret"), 3, /token/, "ps");
  });

  test("one that was never given", async () => {
    const known = cluster.token("alice");
    const last = known.at(-1) === "A" ? "B" : "A";
    const line = assertOneLine(await ps(`${known.slice(0, -1)}${last}`), 3, /unknown token/, "ps");
    assert.ok(!line.includes(known.slice(8, -1)), "a token's secret is never printed");
  });

  test("a revoked one, at once and on connections that are open", async () => {
    await using operator = cluster.connect("operator");
    const { secret, token } = await operator.admin.createUserToken({ user: "alice", lifetimeHours: 1 });
    await using alice = cluster.connect({ token: secret });
    assert.equal((await alice.vms()).length, 1);
    await operator.admin.revokeUserToken({ id: token!.id });
    await assert.rejects(alice.vms(), /revoked/);
    assertOneLine(await ps(secret), 3, /revoked/, "ps");
  });

  test("an expired one", async () => {
    await using operator = cluster.connect("operator");
    const { secret, token } = await operator.admin.createUserToken({ user: "alice", lifetimeHours: 1 });
    // Nobody waits an hour: what the database says of it is moved into the past, before its first use.
    const database = new DatabaseSync(join(cluster.directory, "control/state.db"));
    const { changes } = database.prepare("UPDATE tokens SET expires_ms = 1 WHERE id = ?").run(token!.id);
    database.close();
    assert.equal(changes, 1);
    assertOneLine(await ps(secret), 3, /expired/, "ps");
  });
});

describe("configurations", () => {
  const configs: [what: string, text: string, about: RegExp][] = [
    ["a key that is misspelt", 'name = "h"\nlisten = "unix:/tmp/x.sock"\nstate = "/tmp/x"\nlabel = 1\n', /label/],
    ["a value of the wrong type", 'name = 7\nlisten = "unix:/tmp/x.sock"\nstate = "/tmp/x"\n', /name/],
    ["a missing key", 'listen = "unix:/tmp/x.sock"\n', /name|state/],
    ["what isn't TOML", "name = \n", /line 1|1:/],
  ];
  for (const [what, text, about] of configs) {
    for (const command of ["agent", "control"]) {
      test(`${what}, for ${command}`, async () => {
        const file = join(cluster.directory, "bad.toml");
        writeFileSync(file, text);
        const result = await cluster.cli("alice", [command, "--config", file]);
        const line = assertOneLine(result, 2, /bad\.toml/, text);
        if (command === "agent") assert.match(line, about);
      });
    }
  }

  test("a file that isn't there", async () => {
    for (const command of ["agent", "control"]) {
      const result = await cluster.cli("alice", [command, "--config", "/nowhere/agent.toml"]);
      assertOneLine(result, 2, /nowhere\/agent\.toml/, command);
    }
  });
});

describe("local mode", () => {
  test("a socket that isn't QMP", async () => {
    const path = join(cluster.directory, "other.sock");
    const server = createServer((socket) => socket.on("error", () => {}).end("220 mail.example.com ESMTP\r\n"));
    await new Promise<void>((done) => server.listen(path, done));
    try {
      assertOneLine(await cluster.cli("alice", ["local", "ps", "--qmp", path]), 2, /QMP/, "local ps");
    } finally {
      server.close();
    }
  });

  test("a socket that isn't there, a process that isn't QEMU", async () => {
    assertOneLine(await cluster.cli("alice", ["local", "ps", "--qmp", "/nowhere/qmp"]), 3, /nowhere\/qmp/, "local ps");
    assertOneLine(await cluster.cli("alice", ["local", "ps", "--pid", String(process.pid)]), 2, /QEMU/, "local ps");
  });

  test("a memory image, whole and cut off anywhere", async () => {
    const image = join(cluster.directory, "image.raw");
    const guest = cluster.guests.get("web1")!;
    await guest.monitor("stop");
    try {
      copyFileSync(guest.ramFile!, image);
    } finally {
      await guest.monitor("cont");
    }
    const local = () => cluster.cli("alice", ["local", "ps", "--memory", image, "--json"]);
    const whole = await local();
    assert.equal(whole.code, 0, whole.stderr);
    assert.ok(JSON.parse(whole.stdout).length > 10);
    // Down to sizes that aren't whole pages; where the kernel itself is cut off, that is said.
    for (const size of [300_000_000, 100_000_000, 12_345_678, 4097, 1, 0]) {
      truncateSync(image, size);
      const cut = await local();
      if (cut.code === 0) assert.ok(JSON.parse(cut.stdout).length > 0);
      else assertOneLine(cut, 4, /image\.raw|Linux|memory|RAM/, `${size} bytes`);
      if (size < 1_000_000) assert.equal(cut.code, 4);
    }
  });

  test("a memory image that is cut while it is read", async () => {
    const image = join(cluster.directory, "shrinking.raw");
    copyFileSync(cluster.guests.get("web1")!.ramFile!, image);
    const reading = new Promise<CliResult>((done) => {
      const child = spawn(program, ["local", "ps", "--memory", image], { stdio: ["ignore", "pipe", "pipe"] });
      const output = { stdout: "", stderr: "" };
      child.stdout.setEncoding("utf8").on("data", (text: string) => {
        output.stdout += text;
      });
      child.stderr.setEncoding("utf8").on("data", (text: string) => {
        output.stderr += text;
      });
      child.once("close", (code) => done({ code: code ?? 1, ...output }));
      setTimeout(() => truncateSync(image, 4096), 250);
    });
    const result = await reading;
    // It had been read before, or there is a line that says it can't be: never a crash of the command itself.
    if (result.code !== 0) assertOneLine(result, 4, /./, "local ps");
  });
});
