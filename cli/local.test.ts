import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { capture } from "./testing/capture.ts";

// Reading real guests without a service is tested with the whole system; here is what goes wrong before that.
let folder = "";
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "cloudvmi-local-"));
});
afterEach(() => rm(folder, { recursive: true }));

async function refused(words: string[], code: number, pattern: RegExp): Promise<void> {
  const anywhere = ["--allow-missing", "namespaces,uid,seccomp"];
  const answer = await capture(["local", "ps", ...words, ...anywhere], { env: { XDG_CACHE_HOME: folder } });
  assert.match(answer.err, pattern);
  assert.match(answer.err, /^cloudvmi: [^\n]+\n$/);
  assert.equal(answer.code, code);
}

test("a socket that does not speak QMP is wrong usage", async () => {
  const path = join(folder, "socket");
  const server = createServer((socket) => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n")).listen(path);
  await refused(["--qmp", path], 2, /socket: not a QMP socket/);
  await new Promise((resolve) => server.close(resolve));
});

test("what isn't there is not found", async () => {
  await refused(["--qmp", join(folder, "missing")], 3, /there is no such file/);
  await refused(["--memory", join(folder, "missing")], 3, /there is no such file/);
  const file = join(folder, "file");
  await writeFile(file, "");
  await refused(["--qmp", file], 3, /nobody listens there/);
  await refused(["--pid", "2147483647"], 3, /there is no process/);
});

test("a process that is not QEMU is wrong usage, whoever asks", async () => {
  await refused(["--pid", "1"], 2, /process 1 \(.*\) is not QEMU: give the process id/);
});

test("a file that can't be a memory image can't be read", async () => {
  const file = join(folder, "image");
  await writeFile(file, "");
  await refused(["--memory", file], 4, /image: empty/);
  await refused(["--memory", folder], 4, /not a file/);
});

test("a file of types without content is wrong usage, whatever the guest is", async () => {
  const [image, types] = [join(folder, "image"), join(folder, "none.btf")];
  await writeFile(image, Buffer.alloc(1 << 20));
  await refused(["--memory", image, "--types", types], 3, /none\.btf: there is no such file/);
  await writeFile(types, "");
  await refused(
    ["--memory", image, "--types", types],
    2,
    /types that were supplied \(.*none\.btf\) are damaged: the file is empty/,
  );
});

test("the tables are listed without a guest, and nothing else is", async () => {
  const { code, out, err } = await capture(["local", "tables", "--json"], { env: { XDG_CACHE_HOME: folder } });
  assert.deepEqual([code, err], [0, ""]);
  const [processes] = JSON.parse(out).filter(({ name }: { name: string }) => name === "processes");
  assert.deepEqual(processes.columns[0].type, "integer");
  await refused([], 2, /say which guest: --qmp SOCKET/);
});
