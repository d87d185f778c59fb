import assert from "node:assert/strict";
import fs, { mkdtempSync, openSync, readlinkSync, rmSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mock, type TestContext, test } from "node:test";
import koffi from "koffi";
import { createPopulated } from "./populated.ts";
import { touchedPages } from "./process.ts";
import { Qmp } from "./qmp.ts";
import { findRam, RamError } from "./ram.ts";

// This process stands for QEMU: it has the memory that a monitor tells of.
const libc = koffi.load(null);
const mmap = libc.func("void *mmap(void *at, size_t length, int protection, int flags, int fd, int64_t offset)");
const munmap = libc.func("int munmap(void *at, size_t length)");
const memfd = libc.func("int memfd_create(const char *name, unsigned int flags)");
const [SHARED, PRIVATE, ANONYMOUS, NORESERVE] = [1, 2, 0x20, 0x4000];
const READ_WRITE = 3;
const MIB = 1 << 20;
const TIB = 2 ** 40;

/** Memory of this process that nothing has touched but the pages that are named, by their number. */
function mapped(t: TestContext, length: number, pages: readonly number[], fd = -1): bigint {
  const flags = fd < 0 ? PRIVATE | ANONYMOUS | NORESERVE : SHARED;
  const at: unknown = mmap(null, length, READ_WRITE, flags, fd, 0);
  t.after(() => munmap(at, length));
  for (const page of pages) koffi.encode(at, page * 4096, "uint8", 1);
  return BigInt(koffi.address(at));
}

/** Answers what is asked about RAM of one block, whose memory is at `hva`. */
async function monitorOf(t: TestContext, length: number, hva: bigint): Promise<Qmp> {
  const folder = mkdtempSync(join(tmpdir(), "cloudvmi-ram-"));
  const end = (length - 1).toString(16).padStart(16, "0");
  const mtree = `FlatView #0\r\n AS "memory", root: system\r\n Root memory region: system\r\n  ${"0".repeat(16)}-${end} (prio 0, ram): ram KVM\r\n`;
  const answers: Record<string, unknown> = {
    qmp_capabilities: {},
    "query-memdev": [],
    "info mtree -f": mtree,
    "gpa2hva 0x0": `Host virtual address for 0x0 (ram) is 0x${hva.toString(16)}`,
  };
  const server = createServer((socket) => {
    socket.write('{"QMP": {}}\r\n');
    socket.on("data", (data) => {
      for (const line of data.toString().trim().split("\n")) {
        const asked: { execute: string; id: number; arguments?: { "command-line": string } } = JSON.parse(line);
        const answer = answers[asked.arguments?.["command-line"] ?? asked.execute];
        socket.write(`${JSON.stringify({ return: answer, id: asked.id })}\r\n`);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(join(folder, "qmp"), resolve));
  const qmp = await Qmp.connect(join(folder, "qmp"));
  t.after(() => {
    qmp.close();
    server.close();
    rmSync(folder, { recursive: true });
  });
  return qmp;
}

test("private RAM: what has been touched is told", async (t) => {
  const hva = mapped(t, 1024 * MIB, [3, 4, 200_000]);
  using ram = await findRam(await monitorOf(t, 1024 * MIB, hva), process.pid);
  assert.deepEqual(ram.layout.ranges, [{ gpa: 0, length: 1024 * MIB, backing: 0, offset: Number(hva) }]);
  assert.equal(ram.layout.backings[0]!.kind, "process");
  const told = ram.layout.populated!;
  const bytes = told.reduce((sum, { length }) => sum + length, 0);
  // With huge pages, what a page is within has been touched with it.
  assert.ok(bytes >= 3 * 4096 && bytes <= 6 * MIB, `${bytes} bytes`);
  for (const page of [3, 4, 200_000])
    assert.ok(told.some(({ gpa, length }) => gpa <= page * 4096 && page * 4096 < gpa + length));
});

test("what has been touched is looked up in parts, between which other work goes on", async (t) => {
  const hva = mapped(t, 2048 * MIB, [0]);
  let turns = 0;
  let parts = 0;
  const count = setInterval(() => turns++, 0);
  t.after(() => clearInterval(count));
  for await (const _ of touchedPages(process.pid, Number(hva), 2048 * MIB)) parts++;
  assert.equal(parts, 4);
  assert.ok(turns > 0);
});

test("of more RAM than is worth it nothing is looked up; more than any VM has is refused", async (t) => {
  const hva = mapped(t, 2 * TIB, [7]);
  using ram = await findRam(await monitorOf(t, 2 * TIB, hva), process.pid);
  assert.equal(ram.layout.populated, undefined);
  assert.equal(ram.layout.ranges[0]!.length, 2 * TIB);
  for (const [length, text] of [
    [65 * TIB, /reports 65 TiB of RAM; a VM of more than 64 TiB can't be read/],
    [2 ** 52 + 4096, /where no x86-64 machine can have any/],
  ] as const) {
    const refused = findRam(await monitorOf(t, length, hva), process.pid);
    await assert.rejects(refused, (error) => error instanceof RamError && text.test(error.message));
  }
});

test("shared RAM is opened by its own descriptor, and no other is opened", async (t) => {
  const fd: number = memfd("ram", 0);
  t.after(() => fs.closeSync(fd));
  fs.ftruncateSync(fd, 64 * MIB);
  const others = [openSync("/dev/null", "r"), openSync(import.meta.filename, "r")];
  t.after(() => {
    for (const other of others) fs.closeSync(other);
  });
  const hva = mapped(t, 64 * MIB, [1, 9000], fd);
  const monitor = await monitorOf(t, 64 * MIB, hva);
  const opened: string[] = [];
  const original = fs.openSync;
  mock.method(fs, "openSync", (...args: Parameters<typeof openSync>) => {
    opened.push(String(args[0]));
    return original(...args);
  });
  syncBuiltinESMExports();
  t.after(() => {
    mock.restoreAll();
    syncBuiltinESMExports();
  });
  using ram = await findRam(monitor, process.pid);
  assert.equal(ram.layout.backings[0]!.kind, "shared");
  assert.match(readlinkSync(`/proc/self/fd/${ram.layout.backings[0]!.fd}`), /memfd:ram/);
  assert.deepEqual(ram.layout.populated, [
    { gpa: 4096, length: 4096 },
    { gpa: 9000 * 4096, length: 4096 },
  ]);
  assert.deepEqual(
    opened.filter((path) => path.startsWith(`/proc/${process.pid}/fd/`) || path.startsWith("/dev/")),
    [`/proc/${process.pid}/fd/${fd}`],
  );
});

test("extents are few, however RAM has been touched", () => {
  const populated = createPopulated(8);
  for (let i = 0; i < 1000; i++) populated.add(i * MIB, 4096);
  assert.ok(populated.extents.length <= 8);
  assert.equal(populated.extents[0]!.gpa, 0);
  assert.equal(populated.extents.at(-1)!.gpa + populated.extents.at(-1)!.length, 999 * MIB + 4096);
  for (const [i, { gpa }] of populated.extents.entries()) {
    const before = populated.extents[i - 1];
    assert.ok(!before || before.gpa + before.length < gpa);
  }
});
