// What the tools don't look at: the tracked files themselves.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { extname, join } from "node:path";
import { test } from "node:test";
import { root } from "./planted.ts";

const { stdout } = spawnSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], {
  cwd: root,
  encoding: "utf8",
});
const files = stdout.split("\0").filter((file) => file !== "" && existsSync(join(root, file)));
const read = (file: string) => readFileSync(join(root, file), "utf8");
const isCode = (file: string) =>
  [".ts", ".mjs", ".c", ".h", ".sh", ".proto"].includes(extname(file)) && !file.startsWith("proto/gen/");

test("the tree is there to be looked at", () => {
  assert.ok(files.includes("package.json") && files.filter(isCode).length > 10);
});

test("package.json pins exact versions, and the lock file has the same and no addresses", () => {
  const manifest = JSON.parse(read("package.json"));
  const lock = JSON.parse(read("package-lock.json"));
  for (const kind of ["dependencies", "devDependencies"]) {
    for (const [name, version] of Object.entries<string>(manifest[kind]))
      assert.match(version, /^\d+\.\d+\.\d+(-[\w.]+)?$/, name);
    assert.deepEqual(lock.packages[""][kind], manifest[kind]);
  }
  const addressed = Object.entries<{ resolved?: string }>(lock.packages).filter(([, entry]) => entry.resolved);
  assert.deepEqual(
    addressed.map(([name]) => name),
    [],
  );
});

test("a file of over 400 lines says why near its top", () => {
  const long = files.filter(isCode).filter((file) => {
    const lines = read(file).split("\n");
    return lines.length > 401 && !lines.slice(0, 20).some((line) => /Over 400 lines because \w+/.test(line));
  });
  assert.deepEqual(long, []);
});

test("no tracked file names a path or a package host of one machine", () => {
  // Bracketed, so that this file doesn't find itself.
  const machine =
    /(?<![\w.])\/(?:[w]ork|[f]arm)\/|[.]library\/|\/tmp\/[c]ontracts|https?:\/\/(?![^/]*\.example\b)[^\s"/]*(?:[r]egistry|[m]irror)[^\s"/]*/;
  const found = files
    .filter((file) => ![".png", ".ico"].includes(extname(file)))
    .flatMap((file) => {
      const line = read(file)
        .split("\n")
        .findIndex((text) => machine.test(text));
      return line < 0 ? [] : [`${file}:${line + 1}`];
    });
  assert.deepEqual(found, []);
});

test("no test is switched off, and nothing is left for later", () => {
  const banned = /\b(?:test|it|describe|suite)\.(?:only|todo|skip)\(|\b(?:TO[D]O|FIX[M]E|XX[X]|HAC[K])\b/;
  const found = files.filter(isCode).filter((file) => banned.test(read(file)));
  assert.deepEqual(found, []);
});
