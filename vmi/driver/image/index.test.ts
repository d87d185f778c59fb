import assert from "node:assert/strict";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { ImageError, openImage } from "./index.ts";

const folder = mkdtempSync(join(tmpdir(), "cloudvmi-image-"));
after(() => rmSync(folder, { recursive: true }));
const file = (name: string, content: Buffer | string) => {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
};

test("a raw image is one range, its holes known", () => {
  const path = file("raw", Buffer.alloc(65536, 1));
  truncateSync(path, 1 << 20);
  using image = openImage(path);
  assert.deepEqual(image.layout.ranges, [{ gpa: 0, length: 1 << 20, backing: 0, offset: 0 }]);
  assert.equal(image.layout.backings[0]!.kind, "file");
  const data = image.layout.populated!.reduce((sum, { length }) => sum + length, 0);
  assert.ok(data >= 65536);
});

const refused: [string, Buffer | string, RegExp][] = [
  ["empty", "", /empty: what should have written it failed: copy the memory again$/],
  ["truncated", Buffer.alloc(5000, 1), /5000 bytes is not a whole number of 4096-byte pages/],
  ["elf", Buffer.from("\x7fELF".padEnd(4096, "\0"), "latin1"), /ELF core.*only raw/],
  ["lime", Buffer.from("EMiL\x01".padEnd(4096, "\0"), "latin1"), /LiME/],
];
for (const [name, content, message] of refused) {
  test(`refused in one line: ${name}`, () => {
    const path = file(name, content);
    assert.throws(
      () => openImage(path),
      (error: Error) => {
        assert.ok(error instanceof ImageError);
        assert.match(error.message, message);
        assert.ok(error.message.startsWith(path) && !error.message.includes("\n"));
        return true;
      },
    );
  });
}

test("a missing file and a folder", () => {
  assert.throws(() => openImage(join(folder, "none")), /no such file/);
  assert.throws(() => openImage(folder), /not a file/);
});
