// Two tenants on shared hosts: each sees its own VMs wholly and of the other's nothing, not even that they exist.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type Client, ConnectError, createClient } from "@connectrpc/connect";
import { type Cluster, startCluster } from "../../demo/cluster.ts";
import { GuestService } from "../../proto/gen/cloudvmi/v1/guest_pb.ts";
import { addressOf, dialSession } from "../../sdk/dial.ts";
import { createWireTransport } from "../../wire/index.ts";
import { assertOneLine, json, topology } from "./support.ts";

let cluster: Cluster;
before(async () => {
  cluster = await startCluster(topology, (line) => console.log(line));
});
after(() => cluster?.[Symbol.asyncDispose]());
const uuidOf = (name: string) => cluster.guests.get(name)!.uuid;

describe("what a tenant sees", () => {
  test("each tenant's list holds its own VMs, whatever host they are on", async () => {
    const names = async (user: string) =>
      (await json(cluster, user, ["vms"])).map((vm) => [vm.name, vm.host, vm.project]);
    assert.deepEqual(
      (await names("alice")).sort(([a], [b]) => (String(a) < String(b) ? -1 : 1)),
      [
        ["db1", "host2", "acme"],
        ["web1", "host1", "acme"],
      ],
    );
    assert.deepEqual(await names("bob"), [["ledger", "host1", "globex"]]);
  });

  test("one question reaches every VM of the tenant, and each answers what its own kernel says", async () => {
    const rows = await json(cluster, "alice", ["ps"]);
    assert.deepEqual(new Set(rows.map((row) => row.vm)), new Set(["web1", "db1"]));
    for (const name of ["web1", "db1"]) {
      const seen = new Set(rows.filter((row) => row.vm === name).map((row) => row.pid));
      const { processes } = await cluster.guests.get(name)!.truth();
      // The workload sleeps; what the kernel and the collecting of the truth start and end besides may differ.
      const steady = [...processes.values()].filter((process) => process.cmdline.includes("/lab/"));
      assert.ok(steady.length >= 2, `the workload of ${name} runs`);
      for (const { pid } of steady) assert.ok(seen.has(pid), `${name} lacks process ${pid}`);
    }
  });
});

describe("checks", () => {
  test("what is wrong in a tenant's VMs is found through the service, explained, and told by the exit code", async () => {
    const { code, stdout, stderr } = await cluster.cli("vera", ["checks", "web1"]);
    assert.equal(code, 5, stderr);
    assert.match(stdout, /^ {2}process \d+ \(\.dropper\) runs a deleted program, \/tmp\/\.dropper$/m);
    assert.match(stderr, /^cloudvmi: \d+ findings? \(.*; --all shows them \(\d+ checks, \d+ ms\)\n$/);
    const rows = JSON.parse((await cluster.cli("alice", ["checks", "--json"])).stdout);
    assert.deepEqual(new Set(rows.map((row: { vm: string }) => row.vm)), new Set(["web1", "db1"]));
    const explained = await cluster.cli("vera", ["checks", "--explain", rows[0].check_name]);
    assert.match(explained.stdout, /\n\nmisses\n/, explained.stderr);
  });

  test("a VM of another project is as one that does not exist", async () => {
    const ask = async (name: string) => {
      const { code, stdout, stderr } = await cluster.cli("alice", ["checks", name]);
      return { code, stdout, stderr: stderr.replaceAll(name, "NAME") };
    };
    const theirs = await ask("ledger");
    assert.deepEqual([theirs.code, theirs.stdout], [3, ""]);
    assert.deepEqual(theirs, await ask("nobody"));
  });
});

// Whatever is asked of the VM of another project, the answer has to be that for a VM which nobody has.
const questions: Record<string, object> = {
  ListTables: {},
  ReadMemory: { items: [{ space: { physical: true }, address: "4096", length: 16 }] },
  Translate: { items: [{ space: { kernel: true }, address: "4096" }] },
  LookupSymbols: { names: ["init_task"] },
  LookupTypes: { names: ["task_struct"] },
  ReadObject: { type: "task_struct", space: { kernel: true }, address: "4096" },
  GetRegisters: {},
  Pause: { leaseSeconds: 1 },
  Resume: { lease: "0123456789abcdef" },
};

describe("a VM of another project answers exactly as one that does not exist", () => {
  const nobodys = randomUUID();

  for (const [method, question] of Object.entries(questions)) {
    test(`${method} over HTTP: status, headers and body`, async () => {
      const ask = (uuid: string) => post(`cloudvmi.v1.GuestService/${method}`, { vm: { uuid }, ...question });
      const theirs = await ask(uuidOf("ledger"));
      assert.equal(theirs.status, 404, theirs.body);
      assert.deepEqual(anonymous(theirs, uuidOf("ledger")), anonymous(await ask(nobodys), nobodys));
    });
  }

  test("GetVm over HTTP, by UUID and by name", async () => {
    const ask = (vm: string) => post("cloudvmi.v1.VmService/GetVm", { vm });
    const theirs = await ask(uuidOf("ledger"));
    assert.equal(theirs.status, 404, theirs.body);
    assert.deepEqual(anonymous(theirs, uuidOf("ledger")), anonymous(await ask(nobodys), nobodys));
    assert.deepEqual(anonymous(await ask("ledger"), "ledger"), anonymous(await ask("nobody"), "nobody"));
  });

  test("the right incarnation changes nothing", async () => {
    const [vm] = await json<{ uuid: string; incarnation: string }[]>(cluster, "bob", ["vms"]);
    assert.ok(vm?.incarnation);
    const ask = (uuid: string) =>
      post("cloudvmi.v1.GuestService/GetRegisters", { vm: { uuid, incarnation: vm.incarnation } });
    assert.deepEqual(anonymous(await ask(vm.uuid), vm.uuid), anonymous(await ask(nobodys), nobodys));
  });

  test("streams and calls of a session", async () => {
    const ca = readFileSync(cluster.caFile, "utf8");
    const transport = createWireTransport({
      connect: () => dialSession(addressOf(cluster.url), ca),
      token: cluster.token("alice"),
    });
    try {
      const client = createClient(GuestService, transport);
      for (const ask of sessionQuestions) {
        const theirs = await failure(ask(client, uuidOf("ledger")));
        const none = await failure(ask(client, nobodys));
        assert.equal(theirs.code, 5, theirs.message);
        assert.deepEqual(described(theirs, uuidOf("ledger")), described(none, nobodys));
      }
    } finally {
      await transport.close();
    }
  });

  test("the command line", async () => {
    for (const args of [
      ["ps"],
      ["info"],
      ["registers"],
      ["pause"],
      ["symbol", "@", "init_task"],
      ["read", "@", "0x1000"],
    ]) {
      const ask = (vm: string) =>
        cluster.cli("alice", args.includes("@") ? args.map((a) => (a === "@" ? vm : a)) : [...args, vm]);
      const theirs = await ask("ledger");
      assert.equal(theirs.code, 3, theirs.stderr);
      assert.deepEqual(anonymous(theirs, "ledger"), anonymous(await ask("nobody"), "nobody"));
    }
  });
});

const sessionQuestions: ((client: Client<typeof GuestService>, uuid: string) => Promise<unknown>)[] = [
  (client, uuid) => drain(client.readTable({ vm: { uuid }, table: "processes" })),
  (client, uuid) => drain(client.readTable({ vm: { uuid }, table: "no_such_table" })),
  (client, uuid) => drain(client.streamMemory({ vm: { uuid } })),
  (client, uuid) => drain(client.scan({ vm: { uuid }, rules: [{ name: "r", source: "rule r { condition: true }" }] })),
  (client, uuid) => drain(client.scan({ vm: { uuid }, rules: [{ name: "r", source: "no rule" }] })),
  (client, uuid) => client.getRegisters({ vm: { uuid } }),
  (client, uuid) => client.pause({ vm: { uuid }, leaseSeconds: 9999 }),
];

interface Reply {
  status: number | undefined;
  headers: string[];
  body: string;
}

/** One call of Alice's by Connect's plain HTTP and JSON. */
function post(method: string, message: object): Promise<Reply> {
  return new Promise((done, failed) => {
    const url = new URL(method, `${cluster.url}/`);
    const headers = { "content-type": "application/json", authorization: `Bearer ${cluster.token("alice")}` };
    const call = request(url, { method: "POST", headers, ca: readFileSync(cluster.caFile), agent: false }, (answer) => {
      let body = "";
      answer.setEncoding("utf8").on("data", (text: string) => {
        body += text;
      });
      answer.once("end", () => {
        const sent = answer.rawHeaders.filter((_, at, all) => all[at - (at % 2)]?.toLowerCase() !== "date");
        done({ status: answer.statusCode, headers: sent, body });
      });
    });
    call.once("error", failed);
    call.end(JSON.stringify(message));
  });
}

/** The answer with the name that was asked for taken out, since that is the caller's own. */
const anonymous = (answer: object, name: string) => JSON.stringify(answer).replaceAll(name, "NAME");

async function drain(answers: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of answers);
}

async function failure(answer: Promise<unknown>): Promise<ConnectError> {
  const error = await answer.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof ConnectError, "it must fail");
  return error;
}

const described = ({ code, rawMessage, details, metadata }: ConnectError, uuid: string) =>
  anonymous({ code, rawMessage, details, metadata: [...metadata] }, uuid);

describe("scans", () => {
  const folder = mkdtempSync(join(tmpdir(), "cloudvmi-rules-"));
  after(() => rmSync(folder, { recursive: true }));
  const rulesOf = (name: string, source: string) => {
    writeFileSync(join(folder, name), source);
    return join(folder, name);
  };
  const init = () => rulesOf("banner.yar", 'rule banner { strings: $a = "Linux version 6.1" condition: $a }');

  test("a tenant finds what its VM has, on shared and on private RAM", async () => {
    for (const vm of ["web1", "db1"]) {
      const rows = await json(cluster, "alice", ["scan", vm, "--rules", init(), "--kernel"]);
      assert.ok(
        rows.some(({ symbol, area }) => symbol === "linux_banner" && area === "image"),
        vm,
      );
    }
    const found = await cluster.cli("alice", ["scan", "web1", "--rules", init(), "--physical", "--limit", "1"]);
    assert.equal(found.code, 0, found.stderr);
    assert.match(found.stdout, /^banner\.yar:banner \$a: physical memory, 17 bytes at 0x/);
    assert.match(found.stderr, /stopped before the end after 1 match: --limit allows more/);
  });

  test("wrong rules are refused with their place; a viewer may not scan; another's VM is none", async () => {
    const wrong = await cluster.cli("alice", [
      "scan",
      "web1",
      "--rules",
      rulesOf("bad.yar", "rule x {\n condition: y }"),
    ]);
    assertOneLine(wrong, 2, /bad\.yar:2:13: unknown identifier `y`/, "wrong rules");
    assertOneLine(
      await cluster.cli("vera", ["scan", "web1", "--rules", init()]),
      3,
      /'scan' on VM web1 needs/,
      "viewer",
    );
    const [theirs, none] = await Promise.all(
      ["ledger", "nobody"].map((vm) => cluster.cli("alice", ["scan", vm, "--rules", init()])),
    );
    assert.equal(theirs!.code, 3);
    assert.deepEqual(anonymous(theirs!, "ledger"), anonymous(none!, "nobody"));
  });
});

describe("roles", () => {
  test("a viewer lists and reads tables, and no memory", async () => {
    assert.ok((await json(cluster, "vera", ["ps", "web1"])).length > 10);
    for (const args of [
      ["read", "web1", "0x1000"],
      ["registers", "web1"],
      ["pause", "web1"],
    ]) {
      const { code, stderr } = await cluster.cli("vera", args);
      assert.equal(code, 3, stderr);
      assert.match(stderr, /^cloudvmi: [^\n]+\n$/);
    }
  });

  test("no tenant administers", async () => {
    for (const args of [
      ["admin", "vms"],
      ["admin", "audit"],
      ["admin", "user", "create", "mallory", "--operator"],
    ])
      assert.equal((await cluster.cli("alice", args)).code, 3);
  });

  test("every command that shows something has it as JSON", async () => {
    const init = (await json<{ address: string }[]>(cluster, "alice", ["symbol", "web1", "init_task"]))[0]!.address;
    for (const args of [
      ["whoami"],
      ["vms"],
      ["tables"],
      ["ps", "web1"],
      ["threads", "web1"],
      ["modules", "web1"],
      ["info", "web1"],
      ["info"],
      ["table", "memory_map", "web1"],
      ["read", "web1", init],
      ["translate", "web1", init],
      ["registers", "web1"],
      ["token", "list"],
    ]) {
      const answer = await json<unknown>(cluster, "alice", args);
      assert.ok(answer !== null && typeof answer === "object" && Object.keys(answer).length > 0, args.join(" "));
    }
  });
});
