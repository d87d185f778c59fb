import assert from "node:assert/strict";
import { test } from "node:test";
import { formatHalves } from "../bytes/address.ts";
import { detourOf, isTracerNop, landing } from "./detour.ts";

const at = { hi: -1, lo: 0x8100_0000 | 0 };

function read(hex: string) {
  const code = Buffer.alloc(16);
  code.write(hex, "hex");
  const found = detourOf(code, at);
  return found && [found.how, found.target && formatHalves(found.target.hi, found.target.lo), found.length];
}

test("jumps and calls of every kind that hooks are made of", () => {
  assert.deepEqual(read("e9fb0f0000"), ["jmp", "0xffffffff81001000", 5]);
  assert.deepEqual(read("e8fbefffff"), ["call", "0xffffffff80fff000", 5]);
  assert.deepEqual(read("eb10"), ["jmp", "0xffffffff81000012", 2]);
  assert.deepEqual(read("68001000c0c3"), ["push; ret", "0xffffffffc0001000", 6]);
  assert.deepEqual(read("ff2500000000"), ["jmp through memory", undefined, 6]);
  assert.deepEqual(read("48b8001000c0ffffffffffe0"), ["mov; jmp", "0xffffffffc0001000", 12]);
  assert.deepEqual(read("49bb001000c0ffffffff41ffe3"), ["mov; jmp", "0xffffffffc0001000", 13]);
  assert.deepEqual(read("48b8001000c0ffffffff50c3"), ["mov; push; ret", "0xffffffffc0001000", 12]);
  assert.deepEqual(read("48b8001000c0ffffffffffd0"), ["mov; call", "0xffffffffc0001000", 12]);
  assert.deepEqual(read("cc"), ["int3", undefined, 1]);
});

test("how functions really begin is none of them", () => {
  for (const hex of ["f30f1efa0f1f440000", "554889e5", "0f1f440000", "415741564155", "48b8001000c0ffffffff4889c7"]) {
    assert.equal(read(hex), undefined, hex);
  }
  assert.equal(detourOf(Buffer.from("e9fb0f0000", "hex"), at), undefined, "too few bytes to be sure");
});

test("the tracer's nop, as kernels before 5.13 wrote it on some processors too", () => {
  const isNop = (hex: string) => {
    const code = Buffer.from(`90${hex}`, "hex");
    return isTracerNop(new DataView(code.buffer, code.byteOffset, code.length), 1);
  };
  for (const hex of ["0f1f440000", "6666666690"]) assert.ok(isNop(hex), hex);
  for (const hex of ["0f1f440001", "6666666691", "66666666cc", "6666669090", "e800000000"]) assert.ok(!isNop(hex), hex);
});

test("a function's own code begins behind its landing place and the tracer's nop", () => {
  const before = (hex: string) => landing(Buffer.from(hex.padEnd(32, "c"), "hex"));
  assert.equal(before("e9fb0f0000"), 0);
  assert.equal(before("f30f1efae9"), 4);
  assert.equal(before("0f1f440000e9"), 5);
  assert.equal(before("f30f1efa0f1f440000e9"), 9);
  assert.equal(before("f30f1efa6666666690e9"), 9);
});
