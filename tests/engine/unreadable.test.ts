// Images that hold no kernel that could be read: each is told in one line, with what it is.
import assert from "node:assert/strict";
import { randomFillSync } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { openImage } from "../../vmi/driver/image/index.ts";
import { attach, openMemory } from "../../vmi/index.ts";
import { randomOf } from "./support.ts";

const SIZE = 64 << 20;
const folder = mkdtempSync(join(tmpdir(), "cloudvmi-images-"));
after(() => rmSync(folder, { recursive: true }));

function attachTo(content: Uint8Array): void {
  const path = join(folder, "image");
  writeFileSync(path, content);
  using image = openImage(path);
  using memory = openMemory(image.layout);
  attach(memory);
}

const noise = randomFillSync(new Uint8Array(SIZE));
const noKernel = {
  kind: "no-kernel",
  message: "no Linux kernel found in the guest's memory; if it is starting, ask again in a moment",
};

test("memory that the processor encrypts is noise", () => {
  assert.throws(() => attachTo(noise), { kind: "encrypted", message: /^[^\n]*encrypted \(SEV or TDX\)[^\n]*$/ });
});

test("encrypted but for what it shares with its host, and never touched in part", () => {
  const shared = noise.slice();
  shared.fill(0, SIZE / 2);
  for (let page = 3 * 4096; page < SIZE / 2; page += 64 * 4096) shared.fill(7, page, page + 4096);
  assert.throws(() => attachTo(shared), { kind: "encrypted" });
});

test("zeros, and a system that is none of ours", () => {
  assert.throws(() => attachTo(new Uint8Array(SIZE)), noKernel);
  const random = randomOf(3);
  const other = new Uint8Array(SIZE);
  for (let at = 0; at < 1 << 20; at++) other[at] = at % 4096 < 2000 ? Math.floor(random() * 64) : 0;
  for (let at = 1 << 20; at < SIZE; at += 1 << 20) other.copyWithin(at, 0, 1 << 20);
  assert.throws(() => attachTo(other), noKernel);
});

test("a note that says it is a kernel's, where none is", () => {
  const lie = new Uint8Array(SIZE);
  const text = [
    "OSRELEASE=6.6.6",
    "BUILD-ID=00",
    "SYMBOL(init_uts_ns)=ffffffff82000000",
    "SYMBOL(swapper_pg_dir)=ffffffff82001000",
    "SYMBOL(_stext)=ffffffff81000000",
    "NUMBER(phys_base)=0",
    "OFFSET(uts_namespace.name)=0",
    "",
  ];
  lie.set(Buffer.from(text.join("\n")), 16 << 20);
  assert.throws(() => attachTo(lie), {
    kind: "not-running",
    message: /^no running Linux kernel: .*6\.6\.6.*ask again/,
  });
});

test("an image that was cut off within a page", () => {
  assert.throws(() => attachTo(noise.subarray(0, SIZE - 100)), { name: "ImageError", message: /truncated/ });
});
