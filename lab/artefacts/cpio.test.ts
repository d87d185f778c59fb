import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { cpio } from "./cpio.ts";

const archive = cpio([
  { kind: "directory", path: "bin" },
  { kind: "file", path: "bin/tool", data: Buffer.from("hello"), executable: true },
  { kind: "link", path: "init", target: "/bin/tool" },
  { kind: "character", path: "console", major: 5, minor: 1 },
]);

/** Reads the archive by the format's own rules, independently of the writer. */
function read(data: Uint8Array): { name: string; mode: number; text: string; device: string }[] {
  const buffer = Buffer.from(data);
  const found = [];
  for (let at = 0; ; ) {
    assert.equal(buffer.toString("latin1", at, at + 6), "070701");
    const field = (index: number) =>
      Number.parseInt(buffer.toString("latin1", at + 6 + index * 8, at + 14 + index * 8), 16);
    const body = (at + 110 + field(11) + 3) & ~3;
    const name = buffer.toString("utf8", at + 110, at + 110 + field(11) - 1);
    if (name === "TRAILER!!!") return found;
    found.push({
      name,
      mode: field(1),
      text: buffer.toString("utf8", body, body + field(6)),
      device: `${field(9)}:${field(10)}`,
    });
    at = (body + field(6) + 3) & ~3;
  }
}

test("entries keep their name, mode, content and device", () => {
  assert.deepEqual(read(archive), [
    { name: "bin", mode: 0o040755, text: "", device: "0:0" },
    { name: "bin/tool", mode: 0o100755, text: "hello", device: "0:0" },
    { name: "init", mode: 0o120777, text: "/bin/tool", device: "0:0" },
    { name: "console", mode: 0o020600, text: "", device: "5:1" },
  ]);
});

test("cpio(1) lists it", {
  skip: spawnSync("cpio", ["--version"]).error !== undefined && "no cpio on this host",
}, () => {
  const listed = spawnSync("cpio", ["--list", "--quiet"], { input: archive, encoding: "utf8" });
  assert.equal(listed.stdout, "bin\nbin/tool\ninit\nconsole\n");
});
