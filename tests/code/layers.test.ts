import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { test } from "node:test";
import { layers } from "../../scripts/lint/layers.ts";
import { lintPlanted, root } from "./planted.ts";

const names = Object.keys(layers);
const pairs = names.flatMap((from) => names.filter((to) => to !== from).map((to) => ({ from, to })));
const reach = (from: string, to: string) => {
  const { may } = layers[from]!;
  return may === "everything" ? "static" : may[to];
};
const face = (to: string) => (to === "proto" ? "gen/a_pb.ts" : to === "demo" ? "cluster.ts" : "index.ts");
const targets = Object.fromEntries(names.map((name) => [`${name}/${face(name)}`, "export const value = 1;\n"]));

/** The files that the layer rule refuses, among these and one harmless target in each layer. */
function refused(files: Record<string, string>): Set<string> {
  const findings = lintPlanted({ ...targets, ...files });
  return new Set(findings.filter(({ code }) => code === "cloudvmi(layers)").map(({ filename }) => filename));
}

// One file for each pair and form, all planted at once: the linter reports by file.
function plant(form: (path: string) => string): Record<string, string> {
  return Object.fromEntries(pairs.map(({ from, to }) => [`${from}/deep/to-${to}.ts`, form(`../../${to}/${face(to)}`)]));
}

const forms: Record<string, { text: (path: string) => string; lazy: boolean }> = {
  "an import": { text: (path) => `import { value } from "${path}";\nexport const copy = value;\n`, lazy: false },
  "a re-export": { text: (path) => `export { value } from "${path}";\n`, lazy: false },
  "a re-export of everything": { text: (path) => `export * from "${path}";\n`, lazy: false },
  "a dynamic import": { text: (path) => `export const load = () => import("${path}");\n`, lazy: true },
  "a type-only import": {
    text: (path) => `import type { value } from "${path}";\nexport type Copy = typeof value;\n`,
    lazy: true,
  },
};

for (const [name, { text, lazy }] of Object.entries(forms)) {
  test(`${name} across layers is refused exactly where the table does not grant it`, () => {
    const found = refused(plant(text));
    for (const { from, to } of pairs) {
      const granted = reach(from, to);
      // demo/ and the like have faces of their own; bench/, tests/ and scripts/ have none that others than those two may see.
      const visible = from === "bench" || from === "tests" || layers[to]!.faces.length > 0;
      const allowed = visible && (granted === "static" || (granted === "lazy" && lazy));
      assert.equal(found.has(`${from}/deep/to-${to}.ts`), !allowed, `${from}/ → ${to}/`);
    }
  });
}

test("the layers of the design are closed to each other", () => {
  // Spelt out once more, so that a slip in the table itself shows.
  const closed = [
    "vmi→agent",
    "vmi→control",
    "control→vmi",
    "control→agent",
    "agent→control",
    "sdk→control",
    "wire→vmi",
    "lab→vmi",
  ];
  for (const pair of closed) {
    const [from = "", to = ""] = pair.split("→");
    assert.equal(reach(from, to), undefined, pair);
  }
  for (const to of ["agent", "control", "vmi"]) assert.equal(reach("cli", to), "lazy");
});

test("another layer is seen only through its public face, except by tests and benchmarks", () => {
  const text = `import { value } from "../vmi/linux/tasks.ts";\nexport const copy = value;\n`;
  const found = refused({
    "vmi/linux/tasks.ts": "export const value = 1;\n",
    "agent/peeks.ts": text,
    "agent/peeks.test.ts": text,
    "bench/peeks.ts": text,
    "vmi/own.ts": text.replace("../vmi/", "./"),
  });
  assert.deepEqual(found, new Set(["agent/peeks.ts"]));
});

test("every folder with code is in the table", () => {
  const known = new Set([...names, "docs", "dist", "node_modules"]);
  const folders = readdirSync(root, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  assert.deepEqual(
    folders.map(({ name }) => name).filter((name) => !name.startsWith(".") && !known.has(name)),
    [],
  );
});
