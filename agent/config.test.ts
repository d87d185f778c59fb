import assert from "node:assert/strict";
import { test } from "node:test";
import { loadAgentConfig, parseAgentConfig } from "./config.ts";
import { ConfigError } from "./config-reader.ts";

const minimal = 'listen = "unix:/run/agent.sock"\nstate = "/var/lib/agent"\n';

test("what is not said has its default", () => {
  const config = parseAgentConfig(minimal, "a.toml");
  assert.deepEqual(config.listen, { kind: "unix", path: "/run/agent.sock" });
  assert.deepEqual(config.sandbox.allowMissing, []);
  assert.equal(config.discovery.processes, true);
  assert.deepEqual(config.vms, []);
  assert.equal(config.types.folder, undefined);
  assert.ok(config.name.length > 0);
});

test("everything said", () => {
  const config = parseAgentConfig(
    `name = "host1"
listen = "tls://[::1]:7444"
state = "/s"
[tls]
ca = "/ca"
certificate = "/c"
key = "/k"
[sandbox]
allow_missing = ["seccomp"]
[discovery]
processes = false
[[vm]]
uuid = "A3E0F5C2-0000-4000-8000-000000000001"
project = "shop"
labels = { tier = "web" }
[types]
folder = "/types"
[[vm]]
qmp = "/run/vm.sock"
types = "/types/old.json"
`,
    "a.toml",
  );
  assert.deepEqual([config.types.folder, config.vms[1]?.types], ["/types", "/types/old.json"]);
  assert.deepEqual(config.listen, { kind: "tls", host: "::1", port: 7444 });
  assert.deepEqual(config.tls, { ca: "/ca", certificate: "/c", key: "/k" });
  assert.deepEqual(config.sandbox.allowMissing, ["seccomp"]);
  assert.equal(config.discovery.processes, false);
  assert.equal(config.vms[0]!.uuid, "a3e0f5c2-0000-4000-8000-000000000001");
  assert.deepEqual(config.vms[0]!.labels, { tier: "web" });
  assert.equal(config.vms[1]!.qmp, "/run/vm.sock");
});

const wrong: [string, RegExp][] = [
  ['state = "/s"', /listen is missing/],
  [`${minimal}colour = 1`, /unknown key colour; known are .*listen/],
  [`${minimal}name = 7`, /name must be a string.*not 7/],
  [
    minimal.replace("unix:/run/agent.sock", "http://x"),
    /listen must be unix:\/path or tls:\/\/host:port, not "http:\/\/x"/,
  ],
  [minimal.replace("unix:/run/agent.sock", "tls://h:70000"), /listen must be/],
  [minimal.replace("unix:/run/agent.sock", "tls://h:1"), /needs \[tls\]/],
  [`${minimal}[tls]\nca = "/a"\ncertificate = "/c"`, /\[tls\]: key is missing/],
  [`${minimal}[tls]\nca = "/a"\ncertificate = "/c"\nkey = "/k"`, /no use with a unix socket/],
  [
    `${minimal}[sandbox]\nallow_missing = ["walls"]`,
    /allow_missing must be a list of "namespaces", "uid", "seccomp", not \["walls"\]/,
  ],
  [`${minimal}[sandbox]\nallowmissing = []`, /\[sandbox\]: unknown key allowmissing/],
  [`${minimal}[discovery]\nprocesses = "yes"`, /processes must be true or false, not "yes"/],
  [`${minimal}[[vm]]\nproject = "shop"`, /\[\[vm\]\] number 1: needs uuid, name or qmp/],
  [`${minimal}[[vm]]\nuuid = "12"`, /uuid "12" is not a UUID/],
  [`${minimal}[[vm]]\nname = "a"\nlabels = { tier = 1 }`, /labels.tier must be a string, not 1/],
  [`${minimal}vm = 1`, /vm must be tables/],
  ["= nonsense", /a\.toml:1:\d+: not TOML/],
];
for (const [text, message] of wrong) {
  test(`refused in one line: ${message.source}`, () => {
    assert.throws(
      () => parseAgentConfig(text, "a.toml"),
      (error: Error) => {
        assert.ok(error instanceof ConfigError);
        assert.match(error.message, message);
        assert.ok(error.message.startsWith("a.toml") && !error.message.includes("\n"));
        return true;
      },
    );
  });
}

test("a file that can't be read", () => {
  assert.throws(() => loadAgentConfig("/nonexistent/agent.toml"), /\/nonexistent\/agent.toml: can't be read/);
});
