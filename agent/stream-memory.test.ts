import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import fc from "fast-check";
import { StreamMemoryResponseSchema } from "../proto/gen/cloudvmi/v1/guest_pb.ts";
import type { GuestMemoryLayout } from "../vmi/index.ts";
import { streamMemory } from "./stream-memory.ts";

const folder = mkdtempSync(join(tmpdir(), "cloudvmi-stream-"));
after(() => rmSync(folder, { recursive: true }));

const page = 4096;
const pages = 700;
/** RAM of 700 pages, cut into three ranges with holes between and in another order than in the file. */
const ranges = [
  { gpa: 0, length: 160 * page, backing: 0, offset: 540 * page },
  { gpa: 200 * page, length: 40 * page, backing: 0, offset: 0 },
  { gpa: 1000 * page, length: 500 * page, backing: 0, offset: 40 * page },
];

function ram(filled: (page: number) => boolean): { content: Buffer; layout: GuestMemoryLayout; close: () => void } {
  const content = Buffer.alloc(pages * page);
  for (let i = 0; i < pages; i++) if (filled(i)) content.writeUInt32LE(i + 1, i * page + 4000);
  const path = join(folder, "ram");
  writeFileSync(path, content);
  const fd = openSync(path, "r");
  return { content, layout: { ranges, backings: [{ kind: "file", fd }] }, close: () => closeSync(fd) };
}

/** What a reader puts together, checking that the pieces follow each other. Holes are 0xee. */
async function collect(layout: GuestMemoryLayout, start: number, length: number) {
  const parts: Buffer[] = [];
  let sent = 0;
  let at = BigInt(start);
  for await (const { bytes } of streamMemory({ layout, [Symbol.dispose]: () => {} }, BigInt(start), BigInt(length))) {
    const { address, data, zeros, absent } = fromBinary(StreamMemoryResponseSchema, bytes);
    assert.equal(address, at);
    parts.push(Buffer.from(data), Buffer.alloc(Number(zeros)), Buffer.alloc(Number(absent), 0xee));
    sent += data.length;
    at += BigInt(data.length) + zeros + absent;
  }
  return { memory: Buffer.concat(parts), sent };
}

function expected(content: Buffer, start: number, length: number): Buffer {
  const whole = Buffer.alloc(1500 * page, 0xee);
  for (const range of ranges) content.copy(whole, range.gpa, range.offset, range.offset + range.length);
  return Buffer.concat([whole, Buffer.alloc(page * 100, 0xee)]).subarray(
    start,
    length === 0 ? whole.length : start + length,
  );
}

test("whatever is asked for comes complete and in order", async () => {
  const { content, layout, close } = ram((i) => i % 7 === 0 || (i > 300 && i < 420));
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 0, max: 1500 * page - 1 }),
      fc.integer({ min: 0, max: 400 * page }),
      async (start, length) => {
        const bounded = start + length > 1600 * page ? 0 : length;
        const { memory } = await collect(layout, start, bounded);
        assert.ok(memory.equals(expected(content, start, bounded)));
      },
    ),
    {
      numRuns: 40,
      examples: [
        [0, 0],
        [160 * page - 1, 2],
        [1499 * page, 20 * page],
        [1000 * page, 500 * page],
      ],
    },
  );
  close();
});

test("zeros are told, not sent", async () => {
  const { layout, close } = ram((i) => i === 300);
  const { sent, memory } = await collect(layout, 0, 0);
  assert.equal(memory.length, 1500 * page);
  assert.equal(sent, page);
  close();
});

test("RAM that its file does not hold any more is told as absent", async () => {
  const { layout, close } = ram(() => true);
  writeFileSync(join(folder, "ram"), Buffer.alloc(0));
  const { sent, memory } = await collect(layout, 0, 0);
  assert.equal(sent, 0);
  assert.ok(memory.equals(Buffer.alloc(1500 * page, 0xee)));
  close();
});

test("a stream of much memory is not planned in advance", async () => {
  const { layout: small, close } = ram(() => true);
  const terabyte = 2 ** 40;
  const layout = { ...small, ranges: [{ gpa: 0, length: terabyte, backing: 0, offset: 0 }] };
  const before = process.memoryUsage().heapUsed;
  const stream = streamMemory({ layout, [Symbol.dispose]: () => {} }, 0n, 0n);
  assert.equal((await stream.next()).done, false);
  const grown = process.memoryUsage().heapUsed - before;
  assert.ok(grown < 32 << 20, `the heap has grown by ${grown} bytes`);
  await stream.return(undefined);
  close();
});

/** RAM that is private to a process: pages of it, each of them its first page of code, and a page that it does not have. */
async function privateRam() {
  const child = spawn("sleep", ["1000"], { stdio: "ignore" });
  await once(child, "spawn");
  const code = /^([0-9a-f]+)-[0-9a-f]+ r-xp/m.exec(readFileSync(`/proc/${child.pid}/maps`, "latin1"))![1]!;
  const fd = openSync(`/proc/${child.pid}/mem`, "r");
  const offsets = [...Array<number>(8).fill(Number.parseInt(code, 16)), page];
  const end = async () => {
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
  };
  return {
    layout: {
      ranges: offsets.map((offset, i) => ({ gpa: i * page, length: page, backing: 0, offset })),
      backings: [{ kind: "process" as const, fd }],
    },
    end,
    close: () => closeSync(fd),
  };
}

test("what a process has unmapped is told as absent", async () => {
  const { layout, end, close } = await privateRam();
  const { memory, sent } = await collect(layout, 0, 0);
  assert.equal(sent, 8 * page);
  assert.ok(memory.subarray(8 * page).equals(Buffer.alloc(page, 0xee)));
  await end();
  close();
});

test("a process that ends meanwhile makes the stream fail, not memory absent", async () => {
  const { layout, end, close } = await privateRam();
  const stream = streamMemory({ layout, [Symbol.dispose]: () => {} }, 0n, 0n);
  assert.equal((await stream.next()).done, false);
  await end();
  await assert.rejects(
    async () => {
      for await (const { bytes } of stream) assert.equal(fromBinary(StreamMemoryResponseSchema, bytes).absent, 0n);
    },
    (error) =>
      error instanceof ConnectError && error.code === Code.FailedPrecondition && /has ended/.test(error.message),
  );
  close();
});

test("nothing is behind the end of RAM", async () => {
  const { layout, close } = ram(() => false);
  const opened = { layout, [Symbol.dispose]: () => {} };
  const read = async (start: bigint) => {
    for await (const _ of streamMemory(opened, start, 0n));
  };
  for (const start of [BigInt(1500 * page), (1n << 64n) - 1n]) {
    await assert.rejects(
      read(start),
      (error) => error instanceof ConnectError && /past the end of RAM/.test(error.message),
    );
  }
  close();
});
