import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { ConfigError, loadControlConfig, parseControlConfig } from "./config.ts";
import { startControl } from "./control.ts";
import { createLog } from "./log.ts";

test("everything that can be said", () => {
  const config = parseControlConfig(
    `listen = "tls://[::1]:7000"
     state = "here"
     policies = "/etc/policies"
     [tls]
     certificate = "server.pem"
     key = "server.key"
     [agent_tls]
     ca = "ca.pem"
     certificate = "control.pem"
     key = "control.key"
     [limits]
     timeout_seconds = 5
     max_timeout_seconds = 60
     calls_per_user = 4
     connections = 9
     tokens_per_user = 7
     [[agent]]
     name = "host1"
     address = "tls://host1:7444"
     [[project]]
     name = "shop"
     description = "the shop"
     [[user]]
     name = "ann"
     operator = true
     [[user.membership]]
     project = "shop"
     role = "owner"`,
    "/srv",
  );
  assert.deepEqual(config, {
    listen: { host: "::1", port: 7000 },
    state: "/srv/here",
    policies: "/etc/policies",
    tls: { certificate: "/srv/server.pem", key: "/srv/server.key" },
    agentTls: { ca: "/srv/ca.pem", certificate: "/srv/control.pem", key: "/srv/control.key" },
    limits: { defaultTimeoutMs: 5000, maxTimeoutMs: 60_000, maxConcurrent: 4 },
    maxConnections: 9,
    maxTokens: 7,
    agents: [{ name: "host1", address: "tls://host1:7444" }],
    projects: [{ name: "shop", description: "the shop" }],
    users: [{ name: "ann", operator: true, memberships: [{ project: "shop", role: "owner" }] }],
  });
});

test("only the state directory must be said", () => {
  const config = parseControlConfig(`state = "/s"`, "/srv");
  assert.deepEqual(config, {
    listen: { host: "127.0.0.1", port: 7443 },
    state: "/s",
    limits: { defaultTimeoutMs: 30_000, maxTimeoutMs: 300_000, maxConcurrent: 32 },
    maxConnections: 1024,
    maxTokens: 100,
    agents: [],
    projects: [],
    users: [],
  });
});

const refused: [text: string, says: RegExp][] = [
  ["state = ", /^not TOML: /],
  ["", /^state is missing: give a text/],
  ["state = 5", /^state must be a text/],
  [`state = ""`, /^state must be a text that is not empty/],
  [`state = "s"\nlisten = "0.0.0.0:7443"`, /^listen = "0.0.0.0:7443": use tls:\/\/host:port/],
  [`state = "s"\nstatus = "s"`, /^unknown key status: known here are agent, .* policies, /],
  [`state = "s"\ntls = true`, /^tls must be a table/],
  [`state = "s"\n[tls]\ncertificate = "a"`, /^tls\.key is missing/],
  [`state = "s"\n[tls]\ncertificate = "a"\nkey = "b"\nca = "c"`, /^unknown key tls\.ca/],
  [`state = "s"\n[limits]\ncalls_per_user = 0`, /^limits\.calls_per_user must be a whole number from 1/],
  [`state = "s"\n[limits]\ncalls_per_user = 1.5`, /^limits\.calls_per_user must be a whole number from 1/],
  [`state = "s"\nagent = 5`, /^agent must be a list of tables: write \[\[agent\]\]/],
  [`state = "s"\n[[agent]]\nname = "a"`, /^agent\.address is missing/],
  [`state = "s"\n[[agent]]\nname = "a b"\naddress = "unix:/a"`, /^agent\.name = "a b" is no name/],
  [`state = "s"\n[[agent]]\nname = "a"\naddress = "/a"`, /^agent a: address = "\/a": use unix:/],
  [`state = "s"\n[[agent]]\nname = "a"\naddress = "unix:/a"\nport = 5`, /^unknown key agent\.port/],
  [`state = "s"\n[[project]]\nname = "a"\n[[project]]\nname = "a"`, /^there are two \[\[project\]\] named a/],
  [`state = "s"\n[[project]]\nname = "a"\nowner = "b"`, /^unknown key project\.owner/],
  [`state = "s"\n[[user]]\nname = "a"\noperator = 1`, /^user\.operator must be true or false/],
  [
    `state = "s"\n[[user]]\nname = "a"\n[[user.membership]]\nproject = "p"\nrole = "king"`,
    /^user a: role = "king": use viewer/,
  ],
];

test("what can't be used is refused in one line that names the key", () => {
  for (const [text, says] of refused) {
    assert.throws(
      () => parseControlConfig(text, "/srv"),
      (error) => {
        assert.ok(error instanceof ConfigError, text);
        assert.match(error.message, says);
        assert.doesNotMatch(error.message, /\n/);
        return true;
      },
    );
  }
});

test("the file is named, and what only shows at start is said as well", async () => {
  const directory = mkdtempSync(path.join(tmpdir(), "cloudvmi-config-"));
  const file = path.join(directory, "control.toml");
  const quiet = createLog(() => {});
  const start = (more: string) => {
    writeFileSync(file, `listen = "tls://127.0.0.1:0"\nstate = "state"\n${more}`);
    return startControl(loadControlConfig(file), quiet);
  };
  try {
    assert.throws(() => loadControlConfig(path.join(directory, "none.toml")), /none\.toml: can't be read/);
    writeFileSync(file, "nonsense = 1");
    assert.throws(() => loadControlConfig(file), /control\.toml: state is missing/);
    await assert.rejects(start(`[tls]\ncertificate = "no.pem"\nkey = "no.key"`), /\[tls\]: ENOENT.*no\.pem/);
    await assert.rejects(start(`policies = "no-such"`), /policies: can't read .*no-such/);
    const stranger = `[[user]]\nname = "ann"\n[[user.membership]]\nproject = "none"\nrole = "viewer"`;
    await assert.rejects(start(stranger), /user ann: there is no project none: add a \[\[project\]\]/);
    // A start that failed leaves nothing behind that keeps the next from starting.
    await (await start(`[[user]]\nname = "ann"`)).close();
    await assert.rejects(start(`[[user]]\nname = "ann"\noperator = true`), /user ann is no operator since it was made/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
