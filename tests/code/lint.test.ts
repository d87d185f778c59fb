import assert from "node:assert/strict";
import { test } from "node:test";
import { lintPlanted } from "./planted.ts";

// Rules that carry the project's promises: each has to bite, since a linter that finds no types or no imports stays silent.
const planted: Record<string, { files: Record<string, string>; rule: string }> = {
  "a promise that nobody awaits": {
    rule: "typescript(no-floating-promises)",
    files: { "vmi/bad.ts": "async function work() {}\nexport function start() {\n  work();\n}\n" },
  },
  "a switch that forgets a member of a union": {
    rule: "typescript(switch-exhaustiveness-check)",
    files: {
      "vmi/bad.ts":
        'export function name(kind: "a" | "b") {\n  switch (kind) {\n    case "a":\n      return 1;\n  }\n  return 0;\n}\n',
    },
  },
  any: { rule: "typescript(no-explicit-any)", files: { "vmi/bad.ts": "export const x = (y: any) => y;\n" } },
  "a cycle of imports, of types too": {
    rule: "import(no-cycle)",
    files: {
      "vmi/bad.ts": 'import type { B } from "./b.ts";\nexport interface A {\n  b: B;\n}\n',
      "vmi/b.ts": 'import type { A } from "./bad.ts";\nexport interface B {\n  a: A;\n}\n',
    },
  },
  "a silent catch": {
    rule: "eslint(no-empty)",
    files: { "vmi/bad.ts": "export function f(g: () => void) {\n  try {\n    g();\n  } catch {}\n}\n" },
  },
};

for (const [name, { files, rule }] of Object.entries(planted)) {
  test(`the linter refuses ${name}`, () => {
    const rules = lintPlanted(files).filter(({ filename }) => filename === "vmi/bad.ts");
    assert.ok(
      rules.some(({ code }) => code === rule),
      `found only ${JSON.stringify(rules.map(({ code }) => code))}`,
    );
  });
}

test("the linter accepts what is in order", () => {
  const text = 'import { b } from "./b.ts";\nexport async function f() {\n  await b();\n}\n';
  assert.deepEqual(lintPlanted({ "vmi/good.ts": text, "vmi/b.ts": "export async function b() {}\n" }), []);
});
