import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { qemuArguments, runFiles } from "../qemu/command.ts";
import { resolveSpec } from "../spec.ts";
import { tricks } from "./index.ts";
import { evidenceOf } from "./programs.ts";

test("every trick of the module is one that its source has, and the other way round", () => {
  const folder = join(import.meta.dirname, "module");
  const source = readdirSync(folder).map((name) => readFileSync(join(folder, name), "utf8"));
  const names = source.flatMap((text) => [...text.matchAll(/\.name = "([\w-]+)", \.start/g)].map(([, name]) => name!));
  const known = tricks.map(({ name }) => name);
  assert.ok(names.length > 15 && new Set(known).size === known.length);
  for (const name of names) assert.ok(known.includes(name), name);
  const programs = readFileSync(join(folder, "../../guest/tricks/play.py"), "utf8");
  const calls = readFileSync(join(folder, "../../guest/tricks/calls.py"), "utf8");
  for (const name of known) {
    const played = `${programs}${calls}`.includes(`"${name}": `);
    assert.ok(name === "load-module" || names.includes(name) !== played, name);
  }
});

test("evidence is numbers, addresses and texts, and a null pointer is none", () => {
  assert.deepEqual(evidenceOf(["pid=12", "address=0xffffffffc02f1a48", "original=0x0", "path=/tmp/a=b"]), {
    pid: 12,
    address: 0xffffffffc02f1a48n,
    path: "/tmp/a=b",
  });
});

test("only a guest for tricks has the mark that the module asks for", () => {
  const files = runFiles("/run");
  const boot = { image: "vmlinuz", initramfs: "initramfs" };
  const line = (asked: boolean) =>
    qemuArguments(resolveSpec({ kernel: "6.12", tricks: asked }, "uuid"), files, "tcg", boot, undefined).at(-1)!;
  assert.match(line(true), / lab\.tricks=1 /);
  assert.doesNotMatch(line(false), /tricks/);
});
