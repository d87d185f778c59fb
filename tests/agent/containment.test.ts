// An inspector that hangs, crashes, grows or talks nonsense harms one answer, and nothing else.
import assert from "node:assert/strict";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { createInspection, type Inspection } from "../../agent/inspection.ts";
import { openProfileStore } from "../../agent/profiles.ts";
import { probeSandbox, type Sandbox } from "../../agent/sandbox/layers.ts";
import { typeFiles } from "../../agent/type-files.ts";
import { GuestService, ReadTableRequestSchema, ReadTableResponseSchema } from "../../proto/gen/cloudvmi/v1/guest_pb.ts";
import { bundle } from "../../scripts/build.ts";
import { Encoded } from "../../wire/index.ts";

const folder = mkdtempSync(join(import.meta.dirname, "../../dist/test-containment-"));
const program = join(folder, "inspector.cjs");
const ram = join(folder, "ram");
let sandbox: Sandbox;
const open: Inspection[] = [];

before(async () => {
  await bundle("tests/agent/programs/misbehaving.ts", program);
  writeFileSync(ram, Buffer.alloc(65536), { mode: 0o644 });
  sandbox = await probeSandbox(program, []);
});
after(() => {
  for (const inspection of open) inspection.close();
  rmSync(folder, { recursive: true });
});

function vm(name: string, limits = { graceMs: 300, memoryMiB: 512 }, types = typeFiles(undefined, undefined)) {
  const log: string[] = [];
  const inspection = createInspection({
    vm: { uuid: name, incarnation: "1" },
    sandbox,
    program,
    profiles: openProfileStore(join(folder, name)),
    types,
    limits,
    log: (line) => log.push(line),
    registers: async () => [],
    openRam: async () => {
      const fd = openSync(ram, "r");
      const layout = {
        ranges: [{ gpa: 0, length: 65536, backing: 0, offset: 0 }],
        backings: [{ kind: "file" as const, fd }],
      };
      return { layout, [Symbol.dispose]: () => closeSync(fd) };
    },
  });
  open.push(inspection);
  return { inspection, log };
}

/** Asks for a behaviour; answers which run of the inspector it was that answered. */
async function ask(
  inspection: Inspection,
  table: string,
  budgetMs = 5000,
  signal = new AbortController().signal,
): Promise<string> {
  const request = new Encoded(toBinary(ReadTableRequestSchema, create(ReadTableRequestSchema, { table })));
  let run = "";
  for await (const { bytes } of inspection.stream(GuestService.method.readTable, request, { signal, budgetMs })) {
    const answer = fromBinary(ReadTableResponseSchema, bytes);
    run = `${answer.rows} ${answer.summary?.rows}`;
  }
  return run;
}

function failsWith(code: Code, text: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof ConnectError, String(error));
    assert.equal(Code[error.code], Code[code], error.message);
    assert.match(error.rawMessage, text);
    assert.ok(!error.rawMessage.includes("\n"));
    return true;
  };
}

test("a hang ends at the deadline; another VM is answered meanwhile; the next question finds a new inspector", async () => {
  const { inspection, log } = vm("hang");
  const other = vm("neighbour");
  const first = await ask(inspection, "answer");
  const neighbour = await ask(other.inspection, "answer");
  const hanging = assert.rejects(
    ask(inspection, "hang", 400),
    failsWith(Code.DeadlineExceeded, /took too long|in time/),
  );
  assert.equal(await ask(other.inspection, "answer"), neighbour);
  await hanging;
  await until(() => log.length > 0);
  assert.match(log[0]!, /VM hang: .*did not answer in time and was ended/);
  assert.notEqual(await ask(inspection, "answer"), first);
  assert.deepEqual(other.log, []);
});

for (const [behaviour, text] of [
  ["abort", /ended \(signal 6\)|ended \(SIGABRT\)|ended \(exit code \d+\)/],
  ["exit", /ended \(exit code 3\)/],
  ["garbage", /broke off its connection|ended \(/],
] as const) {
  test(`${behaviour}: the one question is lost, with a reason; the next is answered`, async () => {
    const { inspection, log } = vm(behaviour);
    const first = await ask(inspection, "answer");
    await assert.rejects(ask(inspection, behaviour), failsWith(Code.DataLoss, text));
    assert.notEqual(await ask(inspection, "answer"), first);
    assert.equal(log.length, 1);
  });
}

test("an inspector that grows is ended before it harms the host", async () => {
  const { inspection } = vm("grow", { graceMs: 300, memoryMiB: 200 });
  await assert.rejects(ask(inspection, "grow", 60_000), failsWith(Code.DataLoss, /more than 200 MiB/));
  assert.match(await ask(inspection, "answer"), /^\d+ \d+$/);
});

test("a queue of slow questions is no hang, and neither are callers that leave", async () => {
  const { inspection, log } = vm("busy");
  const first = await ask(inspection, "answer");
  // Together they take longer than the patience for any one of them.
  const runs = await Promise.all(Array.from({ length: 8 }, () => ask(inspection, "slow", 2000)));
  assert.deepEqual([...new Set(runs)], [first]);
  const leaving = new AbortController();
  const left = assert.rejects(ask(inspection, "slow", 300, leaving.signal));
  leaving.abort();
  await left;
  await new Promise((resolve) => setTimeout(resolve, 900));
  assert.equal(await ask(inspection, "answer"), first);
  assert.deepEqual(log, []);
});

test("crashes in a row are answered for a while without starting anew", async () => {
  const { inspection, log } = vm("loop");
  await assert.rejects(ask(inspection, "exit"), failsWith(Code.DataLoss, /ended/));
  await assert.rejects(ask(inspection, "exit"), failsWith(Code.DataLoss, /ended/));
  await assert.rejects(
    ask(inspection, "answer"),
    failsWith(Code.DataLoss, /in 0\.5 s \(it has ended 2 times in a row\)/),
  );
  assert.equal(log.length, 2);
  await new Promise((resolve) => setTimeout(resolve, 600));
  assert.match(await ask(inspection, "answer"), /^\d+ \d+$/);
});

test("an image of the kernel that can't be had is said, and the guest is read without it", async () => {
  const missing = typeFiles(undefined, undefined, join(folder, "nowhere"));
  const { inspection, log } = vm("no-image", undefined, missing);
  assert.match(await ask(inspection, "answer"), /^\d+ \d+$/);
  assert.equal(log.length, 1);
  assert.match(log[0]!, /VM no-image: kernel image of .*nowhere: can't be read/);
});

test("a reset while an inspector starts ends that one, and leaves one", async () => {
  const { inspection, log } = vm("reset");
  const before = children().length;
  const early = assert.rejects(ask(inspection, "answer"), failsWith(Code.FailedPrecondition, /was reset/));
  inspection.restart();
  assert.match(await ask(inspection, "answer"), /^\d+ \d+$/);
  await early;
  const late = assert.rejects(
    ask(inspection, "slow"),
    failsWith(Code.FailedPrecondition, /was reset while it was read/),
  );
  await new Promise((resolve) => setTimeout(resolve, 50));
  inspection.restart();
  await late;
  assert.match(await ask(inspection, "answer"), /^\d+ \d+$/);
  await until(() => children().length === before + 1);
  assert.deepEqual(log, []);
});

test("nothing is left behind by an inspection that is closed", async () => {
  const { inspection } = vm("closed");
  await ask(inspection, "answer");
  const before = children().length;
  inspection.close();
  await until(() => children().length < before);
  await assert.rejects(ask(inspection, "answer"), failsWith(Code.NotFound, /has ended/));
});

function children(): string[] {
  return readFileSync(`/proc/self/task/${process.pid}/children`, "latin1").trim().split(" ");
}

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 200 && !condition(); i++) await new Promise((resolve) => setTimeout(resolve, 25));
  assert.ok(condition(), "it did not come about within 5 s");
}
