import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { gunzipSync } from "node:zlib";
import { typeFiles } from "./type-files.ts";

const buildId = "0123456789abcdef";

test("a file by the build id: any that there is for types, an ISF for symbols", (t) => {
  const folder = mkdtempSync(join(tmpdir(), "cloudvmi-files-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const put = (name: string) => writeFileSync(join(folder, name), name);
  const files = typeFiles(undefined, folder);
  const found = (symbols: boolean, build = buildId) => {
    const bytes = files.ofBuild(build, symbols);
    return bytes && Buffer.from(bytes).toString();
  };
  assert.deepEqual([found(false), found(true)], [undefined, undefined]);
  put(`${buildId}.btf`);
  assert.deepEqual([found(false), found(true)], [`${buildId}.btf`, undefined]);
  put(`${buildId}.json.gz`);
  assert.deepEqual([found(false), found(true)], [`${buildId}.btf`, `${buildId}.json.gz`]);
  put(`${buildId}.json`);
  assert.deepEqual([found(false), found(true)], [`${buildId}.btf`, `${buildId}.json`]);
  assert.equal(found(false, `../${buildId}`), undefined);
  assert.equal(typeFiles(undefined, undefined).ofBuild(buildId, false), undefined);
});

test("what is large is packed; what can't be read is said", (t) => {
  const folder = mkdtempSync(join(tmpdir(), "cloudvmi-files-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, "large.json");
  const bytes = Buffer.alloc(5 << 20, "{}");
  writeFileSync(file, bytes);
  const given = typeFiles(file, undefined).given()!;
  assert.ok(given.length < bytes.length / 10);
  assert.deepEqual(gunzipSync(given), bytes);
  assert.equal(typeFiles(undefined, folder).given(), undefined);
  assert.throws(() => typeFiles(join(folder, "none"), undefined).given(), /types of .*none: can't be read/);
});
