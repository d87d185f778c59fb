import assert from "node:assert/strict";
import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { contextPath, loadContexts, normaliseUrl, resolveContext, saveContexts } from "./context.ts";
import { CliError } from "./failure.ts";

let folder = "";
let env: NodeJS.ProcessEnv = {};
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "cloudvmi-context-"));
  env = { XDG_CONFIG_HOME: folder };
});
afterEach(() => rm(folder, { recursive: true }));

const first = { url: "https://one.example:7443", token: "first-token", ca: "PEM" };
const second = { url: "https://two.example", token: "second-token" };
const save = () => saveContexts(env, { current: "first", contexts: { first, second } });
const fails = (exit: number, pattern: RegExp) => (error: unknown) =>
  error instanceof CliError && error.exit === exit && pattern.test(error.message);

test("what is stored is for this user alone, and comes back", async () => {
  const path = await save();
  assert.equal(path, contextPath(env));
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  assert.deepEqual((await loadContexts(env)).contexts, { first, second });
  assert.deepEqual(await resolveContext(env, undefined), first);
  assert.deepEqual(await resolveContext(env, "second"), second);
  assert.deepEqual(await resolveContext({ ...env, CLOUDVMI_CONTEXT: "second" }, undefined), second);
});

test("without a login it says how to log in", async () => {
  await assert.rejects(resolveContext(env, undefined), fails(3, /cloudvmi login URL/));
  await save();
  await assert.rejects(resolveContext(env, "third"), fails(2, /no context 'third' \(there is: first, second\)/));
  await assert.rejects(resolveContext(env, "__proto__"), fails(2, /no context/));
});

test("the environment goes first, and a stored token never goes to another service", async () => {
  await save();
  const elsewhere = { ...env, CLOUDVMI_URL: "https://else.example" };
  await assert.rejects(resolveContext(elsewhere, undefined), fails(3, /no token for https:\/\/else\.example/));
  assert.deepEqual(await resolveContext({ ...elsewhere, CLOUDVMI_TOKEN: "own" }, undefined), {
    url: "https://else.example",
    token: "own",
  });
  assert.deepEqual(await resolveContext({ ...env, CLOUDVMI_URL: first.url }, undefined), first);
  assert.deepEqual(await resolveContext({ ...env, CLOUDVMI_TOKEN: "own" }, undefined), { ...first, token: "own" });
});

test("a CA file must be one", async () => {
  await save();
  const file = join(folder, "ca.pem");
  await writeFile(file, "nonsense");
  await assert.rejects(resolveContext({ ...env, CLOUDVMI_CA: file }, undefined), fails(2, /no certificate/));
  await writeFile(file, "-----BEGIN CERTIFICATE-----\n");
  assert.match((await resolveContext({ ...env, CLOUDVMI_CA: file }, undefined)).ca ?? "", /BEGIN CERTIFICATE/);
});

test("a damaged file is named", async () => {
  await save();
  for (const text of [
    "{",
    "[]",
    "null",
    '{"current":1,"contexts":{}}',
    '{"current":"a","contexts":{"a":{"url":"x"}}}',
  ]) {
    await writeFile(contextPath(env), text);
    await assert.rejects(loadContexts(env), fails(2, /config\.json is not .*log in again/));
  }
});

test("addresses of services", () => {
  assert.equal(normaliseUrl("https://vmi.example:7443/"), "https://vmi.example:7443");
  assert.equal(normaliseUrl("127.0.0.1:7443"), "https://127.0.0.1:7443");
  assert.throws(() => normaliseUrl("http://vmi.example"), fails(2, /only speaks https/));
  for (const wrong of ["", "ftp://x", "https://x/path", "https://user@x", "https://x?y", "https://", "a b"]) {
    assert.throws(() => normaliseUrl(wrong), fails(2, /not the address of a service/));
  }
});
