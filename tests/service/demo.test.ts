// The newcomer's one command, as npm runs it.
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { program, runCli } from "../../demo/cluster.ts";
import { descendants, eventually, isRunning } from "./support.ts";

const bootstrap = resolve(import.meta.dirname, "../../scripts/bootstrap.mjs");

interface Demo {
  child: ChildProcess;
  output(): string;
  /** Resolves when the output matches; rejects when the demo ends before. */
  shows(pattern: RegExp): Promise<RegExpExecArray>;
  ended: Promise<number | null>;
}

function startDemo(...args: string[]): Demo {
  const child = spawn(process.execPath, [bootstrap, "demo/main.ts", ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, NO_COLOR: "1" },
  });
  let text = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (part: string) => {
      text += part;
      child.emit("shown");
    });
  }
  const ended = new Promise<number | null>((done) => child.once("close", done));
  return {
    child,
    ended,
    output: () => text,
    async shows(pattern) {
      for (;;) {
        const match = pattern.exec(text);
        if (match) return match;
        assert.equal(child.exitCode, null, text);
        await Promise.race([new Promise((done) => child.once("shown", done)), ended]);
      }
    },
  };
}

test("`npm run demo -- --once` shows both hosts' processes and what is out of reach, and leaves nothing", async () => {
  const demo = startDemo("--once");
  assert.equal(await demo.ended, 0, demo.output());
  for (const [vm, host] of [
    ["web1", "host1"],
    ["db1", "host2"],
  ])
    assert.match(demo.output(), new RegExp(`^${vm} +${host} .* init `, "m"));
  assert.match(demo.output(), /alice\$ cloudvmi ps ledger\ncloudvmi: there is no VM 'ledger'/);
  assert.match(demo.output(), /alice\$ cloudvmi ps no-such-vm\ncloudvmi: there is no VM 'no-such-vm'/);
});

test("`npm run demo` stays up with commands that work until it is interrupted, and leaves nothing", async () => {
  const demo = startDemo();
  const [, directory = ""] = await demo.shows(/export XDG_CONFIG_HOME=(\S+)\/config /);
  const [, qmp = ""] = await demo.shows(/local ps --qmp (\S+)/);
  const commands = demo.output().matchAll(/^ {2}(?:\S*\/)?cloudvmi ([^#\n]+?) *(?:#.*)?$/gm);
  let tried = 0;
  for (const [, words = ""] of commands) {
    assert.ok(existsSync(program));
    const env = { XDG_CONFIG_HOME: join(directory, "config"), CLOUDVMI_CONTEXT: "alice" };
    const { code, stderr } = await runCli(words.split(" "), env);
    assert.equal(code, 0, `${words}: ${stderr}`);
    tried += 1;
  }
  assert.ok(tried >= 8, demo.output());
  const started = descendants(demo.child.pid!, /./);
  assert.ok(started.length >= 6, "guests, agents, control");
  demo.child.kill("SIGTERM");
  assert.equal(await demo.ended, 0, demo.output());
  assert.ok(!existsSync(directory) && !existsSync(qmp));
  // What an agent had below it ends with it, if a moment later.
  await eventually(10, async () => assert.deepEqual(started.filter(isRunning), []));
});
