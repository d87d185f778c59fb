import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { freePort, startServiceProcess } from "./service-process.ts";

const folder = mkdtempSync(join(tmpdir(), "cloudvmi-process-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
const logFile = join(folder, "log");

const isRunning = (pid: number) => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

test("a program counts as started once it listens, and is gone once it is stopped", async () => {
  const port = await freePort();
  const source = `console.log("up"); require("node:net").createServer().listen(${port}, "127.0.0.1")`;
  const service = await startServiceProcess({
    name: "it",
    command: [process.execPath, "-e", source],
    cwd: folder,
    logFile,
    port,
  });
  assert.ok(isRunning(service.pid));
  assert.equal(service.log(), "up\n");
  await service.stop();
  assert.ok(!isRunning(service.pid));
  await service.stop();
});

test("one that ends before it listens is told with its last words", async () => {
  const spec = { name: "it", cwd: folder, logFile, port: await freePort() };
  await assert.rejects(startServiceProcess({ ...spec, command: ["sh", "-c", "echo no such key >&2; exit 3"] }), {
    message: /it has ended at once.*no such key/s,
  });
  await assert.rejects(startServiceProcess({ ...spec, command: ["/nowhere/program"] }), /nowhere\/program/);
});
