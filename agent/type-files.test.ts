import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { gunzipSync } from "node:zlib";
import { typeFiles } from "./type-files.ts";

const buildId = "0123456789abcdef";

test("a file by the build id: any that there is for types, an ISF for symbols", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "cloudvmi-files-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const put = (name: string) => writeFileSync(join(folder, name), name);
  const files = typeFiles(undefined, folder);
  const found = async (symbols: boolean, build = buildId) => {
    const bytes = await files.forBuildId(build, symbols);
    return bytes && Buffer.from(bytes).toString();
  };
  const both = async () => [await found(false), await found(true)];
  assert.deepEqual(await both(), [undefined, undefined]);
  put(`${buildId}.btf`);
  assert.deepEqual(await both(), [`${buildId}.btf`, undefined]);
  put(`${buildId}.json.gz`);
  assert.deepEqual(await both(), [`${buildId}.btf`, `${buildId}.json.gz`]);
  put(`${buildId}.json`);
  assert.deepEqual(await both(), [`${buildId}.btf`, `${buildId}.json`]);
  assert.equal(await found(false, `../${buildId}`), undefined);
  assert.equal(await typeFiles(undefined, undefined).forBuildId(buildId, false), undefined);
});

test("an image by the build id, or the one that is named for a guest", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "cloudvmi-files-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const image = Buffer.alloc(5 << 20, "MZ");
  writeFileSync(join(folder, `${buildId}.vmlinuz`), image);
  const files = typeFiles(undefined, folder);
  assert.deepEqual(await files.kernelImage(buildId), image, "it is packed already");
  assert.equal(await files.kernelImage("fedcba9876543210"), undefined);
  assert.equal(await files.forBuildId(buildId, false), undefined);
  const named = typeFiles(undefined, undefined, join(folder, `${buildId}.vmlinuz`));
  assert.deepEqual(await named.kernelImage("fedcba9876543210"), image);
  const missing = typeFiles(undefined, undefined, join(folder, "nothing"));
  await assert.rejects(missing.kernelImage(buildId), /kernel image of .*nothing: can't be read/);
});

const hasXz = spawnSync("xz", ["--version"]).status === 0;

test("an image in xz is unpacked by the host", { skip: hasXz ? false : "no xz on this host" }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "cloudvmi-files-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const kernel = Buffer.alloc(3 << 20, "a kernel ");
  const packed = execFileSync("xz", ["--x86", "--lzma2"], { input: kernel });
  const file = join(folder, "vmlinuz");
  const put = (payload: Buffer) => writeFileSync(file, Buffer.concat([Buffer.alloc(4096, "MZ"), payload]));
  const files = typeFiles(undefined, undefined, file);
  // Its size and more are behind it.
  put(Buffer.concat([packed, Buffer.alloc(5000, 7)]));
  assert.deepEqual(gunzipSync((await files.kernelImage(buildId))!), kernel);
  assert.equal(await files.kernelImage(buildId), await files.kernelImage(buildId), "it is unpacked once");
  // The inspector says of such an image that it can't be read.
  const damaged = packed.subarray(0, packed.length >> 1);
  put(damaged);
  assert.deepEqual(await files.kernelImage(buildId), readFileSync(file));
  const path = process.env.PATH;
  try {
    process.env.PATH = folder;
    put(Buffer.concat([packed, Buffer.alloc(4000, 7)]));
    assert.deepEqual(await files.kernelImage(buildId), readFileSync(file), "a host without xz");
  } finally {
    process.env.PATH = path;
  }
});

test("what is large is packed, once; what can't be read is said", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "cloudvmi-files-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, "large.json");
  const bytes = Buffer.alloc(5 << 20, "{}");
  writeFileSync(file, bytes);
  const files = typeFiles(file, undefined);
  const given = (await files.override())!;
  assert.ok(given.length < bytes.length / 10);
  assert.deepEqual(gunzipSync(given), bytes);
  assert.equal(await files.override(), given, "it is packed once");
  writeFileSync(file, bytes.subarray(2));
  assert.deepEqual(gunzipSync((await files.override())!), bytes.subarray(2), "it has changed");
  assert.equal(await typeFiles(undefined, folder).override(), undefined);
  const none = typeFiles(join(folder, "none"), undefined);
  await assert.rejects(none.override(), /types of .*none: can't be read/);
  writeFileSync(join(folder, "none"), "there it is");
  assert.equal(Buffer.from((await none.override())!).toString(), "there it is");
  await assert.rejects(
    typeFiles("/dev/zero", undefined).override(),
    /types of \/dev\/zero: can't be read: it is not a file/,
  );
});
