import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { capture } from "./testing/capture.ts";
import { type FakeService, goodToken, startFakeService } from "./testing/fake-service.ts";

let service: FakeService;
let folder = "";
before(async () => {
  service = await startFakeService();
  folder = await mkdtemp(join(tmpdir(), "cloudvmi-cli-"));
  await writeFile(join(folder, "ca.pem"), service.ca);
});
after(async () => {
  await service[Symbol.asyncDispose]();
  await rm(folder, { recursive: true });
});

const cloudvmi = (...words: string[]) =>
  capture(words, {
    env: {
      XDG_CONFIG_HOME: folder,
      CLOUDVMI_URL: service.url,
      CLOUDVMI_TOKEN: goodToken,
      CLOUDVMI_CA: join(folder, "ca.pem"),
    },
  });

test("an address that no symbol is near fails as an unknown name does, and is no matter of spelling", async () => {
  const none = await cloudvmi("symbol", "web1", "0x400000");
  assert.equal(none.code, 3);
  assert.match(none.err, /^cloudvmi: no symbol there, of the kernel's image or a module: 0x0*400000\n$/);
  const both = await cloudvmi("symbol", "web1", "0x400000", "init_tsk", "init_task");
  assert.equal(both.code, 3);
  assert.match(both.err, /^cloudvmi: not found in this kernel: 0x0*400000, init_tsk: check the spelling\n$/);
  assert.match(both.out, /^init_task +init_task/m);
});

test("an object of which nothing can be read is one error, as memory that is not mapped is", async () => {
  for (const json of [[], ["--json"]]) {
    const { out, err, code } = await cloudvmi("type", "web1", "pair", "--at", "0", ...json);
    assert.deepEqual([out, code], ["", 4]);
    assert.match(err, /^cloudvmi: nothing of it can be read: 0x0{16} is not mapped in the kernel's space\n$/);
  }
  const { err } = await cloudvmi("type", "web1", "pair", "--at", "0", "--process", "1");
  assert.match(err, /is not mapped in process 1\n$/);
});
