// What an inspector can't do, found out from inside of it.
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { launch } from "../../agent/sandbox/launch.ts";
import { probeSandbox, type Sandbox, SandboxError } from "../../agent/sandbox/layers.ts";
import { bundle } from "../../scripts/build.ts";

const root = process.getuid!() === 0;
// Inside the repository: without namespaces a program looks for koffi beside itself.
const folder = mkdtempSync(join(import.meta.dirname, "../../dist/test-sandbox-"));
const memory = join(mkdtempSync(join(tmpdir(), "cloudvmi-sandbox-")), "ram");
const program = join(folder, "inspector.cjs");
let victim: ChildProcess;
let server: Server;
let port: number;
let stack: { start: number; end: number };

before(async () => {
  await bundle("tests/agent/programs/prober.ts", program);
  writeFileSync(memory, Buffer.alloc(65536, 7), { mode: 0o644 });
  server = createServer((socket) => socket.destroy()).listen(0, "127.0.0.1");
  await once(server, "listening");
  port = (server.address() as AddressInfo).port;
  victim = spawn("sleep", ["600"], { stdio: "ignore" });
  await new Promise((resolve) => setTimeout(resolve, 200));
  const line = /^([0-9a-f]+)-([0-9a-f]+) rw-p .*\[stack\]$/m.exec(readFileSync(`/proc/${victim.pid}/maps`, "latin1"))!;
  const end = Number.parseInt(line[2]!, 16);
  stack = { start: end - 8192, end };
});
after(() => {
  server.close();
  victim.kill("SIGKILL");
  rmSync(folder, { recursive: true });
  rmSync(join(memory, ".."), { recursive: true });
});

interface Probe {
  readonly results: Record<string, string>;
  /** /proc/PID/status of each of its threads. */
  readonly threads: string[];
}

async function probe(sandbox: Sandbox): Promise<Probe> {
  const descriptors = [openSync(memory, "r"), openSync(`/proc/${victim.pid}/mem`, "r")];
  const layout = {
    ranges: [
      { gpa: 0, length: 65536, backing: 0, offset: 0 },
      { gpa: 65536, length: stack.end - stack.start, backing: 1, offset: stack.start },
    ],
    backings: [
      { kind: "shared", fd: 4 },
      { kind: "process", fd: 5 },
    ],
  };
  const environment = { PROBE_PORT: String(port) };
  const { child, wire } = launch({ sandbox, program, input: JSON.stringify(layout), descriptors, environment });
  for (const fd of descriptors) closeSync(fd);
  let stderr = "";
  child.stderr!.on("data", (chunk) => {
    stderr += chunk;
  });
  let text = "";
  for await (const chunk of wire) text += chunk;
  const leaf = youngest(child.pid!);
  const threads = readdirSync(`/proc/${leaf}/task`).map((task) =>
    readFileSync(`/proc/${leaf}/task/${task}/status`, "utf8"),
  );
  const gone = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await gone;
  assert.notEqual(text, "", `the probe said nothing: ${stderr}`);
  return { results: JSON.parse(text), threads };
}

/** The end of the line of a process's children. */
function youngest(pid: number): number {
  const child = Number.parseInt(readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1"), 10);
  return Number.isNaN(child) ? pid : youngest(child);
}

/** All that may be: what reading memory is. Anything else is refused by the filter, unless said here. */
const expected: Record<string, string> = {
  "read guest memory": "ok",
  "read its last page": "ok",
  // Nothing is mapped at position 0, and the position can't be moved.
  "read at the position": "EIO",
  // Opened read only.
  "write to guest memory": "EBADF",
  "make the mapping writable": "EACCES",
  // Refused from before the program began.
  "socket, internet": "EPERM",
};

function assertConfined({ results, threads }: Probe): void {
  assert.ok(Object.keys(results).length > 40, "the probe tried too little");
  for (const [what, answer] of Object.entries(results)) {
    if (what === "uid") continue;
    assert.equal(answer, expected[what] ?? "EPERM", what);
  }
  if (root) assert.equal(results.uid, "65534");
  assert.ok(threads.length > 1);
  for (const status of threads) {
    assert.match(status, /^Seccomp:\t2$/m);
    assert.match(status, /^NoNewPrivs:\t1$/m);
    assert.match(status, /^CapEff:\t0{16}$/m);
    assert.match(status, /^CapPrm:\t0{16}$/m);
    if (root) assert.match(status, /^Uid:\t65534\t65534\t65534\t65534$/m);
    if (root) assert.match(status, /^Groups:\t\s*$/m);
  }
}

test("an inspector can read its guest's memory, and do nothing else", async () => {
  assertConfined(await probe(await probeSandbox(program, [])));
});

test("without bubblewrap, the other layers hold by themselves", async () => {
  assertConfined(await probe({ namespaces: false, uid: root, seccomp: true, warnings: [] }));
});

test("the probe finds what is open: without any layer nearly everything is", async () => {
  const { results, threads } = await probe({ namespaces: false, uid: false, seccomp: false, warnings: [] });
  const open = [
    "read before it",
    "map the file",
    "open by Node",
    "openat",
    "socket, unix",
    "preadv",

    "memfd_create",
  ];
  for (const what of open) assert.notEqual(results[what], "EPERM", what);
  assert.equal(results["connect by Node"], "ok");
  assert.match(threads[0]!, /^Seccomp:\t0$/m);
});

test("namespaces alone leave no file of the host, no network and no other process", { skip: !root }, async () => {
  const full = await probeSandbox(program, []);
  const { results } = await probe({ ...full, uid: false, seccomp: false });
  assert.equal(results["open by Node"], "ENOENT");
  assert.equal(results.openat, "ENOENT");
  assert.equal(results["connect by Node"], "ECONNREFUSED"); // its own loopback, where nobody listens
  assert.equal(results.pidfd_open, "ok"); // pid 1 of its own namespace
});

test("a layer that is missing is refused in one line, unless it is named", async (t) => {
  const path = process.env.PATH;
  t.after(() => {
    server.close();
    process.env.PATH = path;
  });
  process.env.PATH = "/nonexistent";
  await assert.rejects(probeSandbox(program, []), (error: Error) => {
    assert.ok(error instanceof SandboxError);
    assert.match(error.message, /"namespaces": bubblewrap is not installed .*allow_missing/);
    assert.ok(!error.message.includes("\n"));
    return true;
  });
  const allowed = await probeSandbox(program, root ? ["namespaces"] : ["namespaces", "uid"]);
  assert.equal(allowed.namespaces, false);
  assert.equal(allowed.uid, root);
  assert.match(allowed.warnings[0]!, /run without "namespaces"/);
});
