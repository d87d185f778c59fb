import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { VmStatus } from "../proto/gen/cloudvmi/v1/vm_pb.ts";
import { noProfileStore } from "./profiles.ts";
import { typeFiles } from "./type-files.ts";
import { openVm } from "./vm.ts";

test("a flood of events asks for the status once at a time, and the last word is known", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "cloudvmi-vm-"));
  let status = "running";
  let asked = 0;
  let monitor: Socket | undefined;
  const server = createServer((socket) => {
    monitor = socket;
    socket.on("error", () => {});
    socket.write('{"QMP": {}}\r\n');
    socket.on("data", (data) => {
      for (const line of data.toString().trim().split("\n")) {
        const { execute, id }: { execute: string; id: number } = JSON.parse(line);
        if (execute === "query-status") asked++;
        socket.write(`${JSON.stringify({ return: { status }, id })}\r\n`);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(join(folder, "qmp"), resolve));
  let changed = () => {};
  const environment = {
    host: "host",
    sandbox: { namespaces: false, uid: false, seccomp: false, warnings: [] },
    program: "",
    scanner: "",
    profiles: noProfileStore,
    pauses: undefined,
    entries: [],
    types: () => typeFiles(undefined, undefined),
    log: () => {},
  };
  const vm = await openVm(join(folder, "qmp"), undefined, environment, { changed: () => changed(), gone: () => {} });
  t.after(async () => {
    await vm.close();
    server.close();
    rmSync(folder, { recursive: true });
  });
  assert.equal(vm.describe().status, VmStatus.RUNNING);
  asked = 0;
  const told = new Promise<void>((resolve) => {
    changed = resolve;
  });
  const event = '{"event": "BLOCK_IO_ERROR", "data": {}}\r\n';
  monitor!.write(event.repeat(2000));
  status = "paused";
  monitor!.write('{"event": "STOP", "data": {}}\r\n');
  await told;
  assert.equal(vm.describe().status, VmStatus.PAUSED);
  assert.ok(asked < 50, `asked ${asked} times`);
});
