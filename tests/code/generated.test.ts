import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, globSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { test } from "node:test";
import { root } from "./planted.ts";

/** Runs with a copy of the contracts, and buf in it. */
function withContracts(
  run: (copy: string, buf: (...args: string[]) => { status: number | null; says: string }) => void,
) {
  const copy = mkdtempSync(join(tmpdir(), "cloudvmi-generated-"));
  try {
    for (const name of ["buf.yaml", "buf.gen.yaml", "proto"])
      cpSync(join(root, name), join(copy, name), { recursive: true });
    symlinkSync(join(root, "node_modules"), join(copy, "node_modules"));
    const bin = join(root, "node_modules/.bin");
    run(copy, (...args) => {
      const { status, stdout, stderr } = spawnSync(join(bin, "buf"), args, {
        cwd: copy,
        env: { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH}` },
        encoding: "utf8",
      });
      return { status, says: stdout + stderr };
    });
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

test("proto/gen is what the contracts generate", () => {
  withContracts((copy, buf) => {
    rmSync(join(copy, "proto/gen"), { recursive: true });
    const { status, says } = buf("generate");
    assert.equal(status, 0, says);
    const read = (tree: string) =>
      Object.fromEntries(
        globSync("proto/gen/**/*.ts", { cwd: tree })
          .sort()
          .map((file) => [file, readFileSync(join(tree, file), "utf8")]),
      );
    assert.ok(Object.keys(read(copy)).length > 0);
    assert.deepEqual(read(root), read(copy), "run: npm run generate");
  });
});

const promised = "proto/contract.yaml";

test("the contract that is promised has everything that there is", () => {
  withContracts((copy, buf) => {
    const { status, says } = buf("build", "--exclude-source-info", "-o", promised);
    assert.equal(status, 0, says);
    const read = (tree: string) => readFileSync(join(tree, promised), "utf8");
    assert.ok(read(root) === read(copy), "run: npm run generate");
  });
});

test("what is promised can be added to, and not be taken away", () => {
  const field = "  uint64 memory_bytes = 6;\n";
  const changes: [change: string, refusal: RegExp | undefined][] = [
    [`${field}  uint64 added = 99;\n`, undefined],
    [`  reserved 6;\n  reserved "memory_bytes";\n`, undefined],
    ["", /Previously present field "6" with name "memory_bytes" on message "Vm" was deleted/],
    ["  string memory_bytes = 6;\n", /Field "6" with name "memory_bytes" on message "Vm" changed type/],
    ["  uint64 memory = 6;\n", /changed option "json_name"/],
  ];
  for (const [change, refusal] of changes) {
    withContracts((copy, buf) => {
      const file = join(copy, "proto/cloudvmi/v1/vm.proto");
      const text = readFileSync(file, "utf8");
      assert.ok(text.includes(field));
      writeFileSync(file, text.replace(field, change));
      const { status, says } = buf("breaking", "--against", promised);
      assert.equal(status === 0, refusal === undefined, says);
      if (refusal !== undefined) assert.match(says, refusal);
    });
  }
});
