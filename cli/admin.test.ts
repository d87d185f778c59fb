import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { capture } from "./testing/capture.ts";
import { type FakeService, goodToken, startFakeService } from "./testing/fake-service.ts";

let service: FakeService;
let folder = "";
let env: NodeJS.ProcessEnv = {};
before(async () => {
  service = await startFakeService();
  folder = await mkdtemp(join(tmpdir(), "cloudvmi-admin-"));
  const ca = join(folder, "ca.pem");
  await writeFile(ca, service.ca);
  env = { XDG_CONFIG_HOME: folder, CLOUDVMI_URL: service.url, CLOUDVMI_TOKEN: goodToken, CLOUDVMI_CA: ca };
});
after(async () => {
  await service[Symbol.asyncDispose]();
  await rm(folder, { recursive: true });
});

const admin = (...words: string[]) => capture(["admin", ...words], { env });

test("the audit trail is listed newest first, and a broken one fails", async () => {
  const [record] = JSON.parse((await admin("audit", "--json")).out);
  assert.deepEqual([record.sequence, record.detail], [7, '{"newest":true,"limit":100}']);
  assert.equal((await admin("audit", "verify")).code, 0);
  const broken = await admin("audit", "verify", "--anchor", `7:${"0".repeat(64)}`);
  assert.match(broken.err, /broken at record 3/);
  assert.equal(broken.code, 1);
  const odd = await admin("audit", "verify", "--anchor", "7");
  assert.match(odd.err, /not an anchor/);
  assert.equal(odd.code, 2);
});

test("a VM is given to another host by UUID also while it is on no list", async () => {
  const uuid = "00000000-0000-4000-8000-00000000AAA1";
  const { code, out } = await admin("vms", "move", uuid, "host2", "--json");
  assert.equal(code, 0);
  assert.deepEqual(JSON.parse(out), { uuid: uuid.toLowerCase(), agent: "host2" });
  assert.deepEqual(service.moved, [`${uuid.toLowerCase()} host2`]);
  for (const words of [["vms", "move", "web1", "host2"], ["vms"], ["vms", "--limit", "1"], ["vms", "list"]]) {
    const refused = await admin(...words);
    assert.equal(refused.code, 3, words.join(" "));
    assert.match(refused.err, /only operators/);
  }
  assert.equal(service.moved.length, 1);
});
