import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, globSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { test } from "node:test";
import { root } from "./planted.ts";

test("proto/gen is what the contracts generate", () => {
  const copy = mkdtempSync(join(tmpdir(), "cloudvmi-generated-"));
  try {
    for (const name of ["buf.yaml", "buf.gen.yaml", "proto"])
      cpSync(join(root, name), join(copy, name), { recursive: true });
    rmSync(join(copy, "proto/gen"), { recursive: true });
    symlinkSync(join(root, "node_modules"), join(copy, "node_modules"));
    const bin = join(root, "node_modules/.bin");
    const { status, stderr } = spawnSync(join(bin, "buf"), ["generate"], {
      cwd: copy,
      env: { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH}` },
      encoding: "utf8",
    });
    assert.equal(status, 0, stderr);
    const read = (tree: string) =>
      Object.fromEntries(
        globSync("proto/gen/**/*.ts", { cwd: tree })
          .sort()
          .map((file) => [file, readFileSync(join(tree, file), "utf8")]),
      );
    assert.ok(Object.keys(read(copy)).length > 0);
    assert.deepEqual(read(root), read(copy), "run: npm run generate");
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
});
