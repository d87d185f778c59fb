import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { GuestError } from "../errors.ts";
import { unpackLz4 } from "./lz4.ts";
import { unpackKernel } from "./unpack.ts";

const kernel = Buffer.concat([Buffer.from("\x7fELF", "latin1"), Buffer.alloc(5000, "abc"), Buffer.from("the end")]);

/** A boot image with so many bytes inside. */
function bootImage(payload: Uint8Array): Buffer {
  const header = Buffer.alloc(0x1000);
  header[0x1f1] = 3;
  header.write("HdrS", 0x202, "latin1");
  header.writeUInt16LE(0x20f, 0x206);
  header.writeUInt32LE(0x1000 - 4 * 512, 0x248);
  header.writeUInt32LE(payload.length, 0x24c);
  return Buffer.concat([header, payload, Buffer.from("what is behind")]);
}

function sized(packed: Uint8Array): Buffer {
  const size = Buffer.alloc(4);
  size.writeUInt32LE(kernel.length);
  return Buffer.concat([packed, size]);
}

/** LZ4 of literals, one match that repeats them, and literals again. */
function lz4(): Buffer {
  const literals = kernel.subarray(0, 7);
  // The match goes on until the last 7 bytes: 3 bytes again and again.
  const match = kernel.length - 14;
  const lengths: number[] = [];
  for (let left = match - 4 - 15; ; left -= 255) {
    lengths.push(Math.min(left, 255));
    if (left < 255) break;
  }
  const block = Buffer.concat([
    Buffer.from([(7 << 4) | 15]),
    literals,
    Buffer.from([3, 0, ...lengths, 7 << 4]),
    kernel.subarray(-7),
  ]);
  const frame = Buffer.alloc(8);
  frame.writeUInt32LE(0x184c2102);
  frame.writeUInt32LE(block.length, 4);
  return Buffer.concat([frame, block]);
}

const refused = (part: RegExp) => (error: unknown) =>
  error instanceof GuestError && error.kind === "bad-request" && part.test(error.message);

test("boot images and linked kernels, however they are packed", () => {
  for (const file of [
    bootImage(gzipSync(kernel)),
    bootImage(sized(zstdCompressSync(kernel))),
    bootImage(sized(lz4())),
    kernel,
  ]) {
    assert.deepEqual(Buffer.from(unpackKernel(file)), kernel);
  }
});

test("what can't be unpacked is refused, and says what to do", () => {
  const xz = Buffer.from("fd377a585a000000000000", "hex");
  assert.throws(() => unpackKernel(bootImage(xz)), refused(/packed with xz.*extract-vmlinux/));
  assert.throws(() => unpackKernel(bootImage(gzipSync(kernel).subarray(0, 30))), refused(/can't be unpacked/));
  assert.throws(() => unpackKernel(Buffer.alloc(0x2000, 1)), refused(/neither a boot image/));
  assert.throws(() => unpackKernel(Buffer.alloc(10)), refused(/neither a boot image/));
});

test("damaged LZ4 ends, and gives nothing", () => {
  const packed = lz4();
  assert.throws(() => unpackLz4(packed, kernel.length + 1), refused(/damaged/));
  assert.throws(() => unpackLz4(packed, kernel.length - 1), refused(/damaged/));
  for (let at = 4; at < packed.length; at++) {
    const changed = Buffer.from(packed);
    changed[at]! ^= 0xff;
    try {
      assert.equal(unpackLz4(changed, kernel.length).length, kernel.length);
    } catch (error) {
      assert.ok(error instanceof GuestError);
    }
  }
});
