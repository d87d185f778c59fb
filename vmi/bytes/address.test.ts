import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { addHi, addLo, formatHalves, gvaOf, hiOf, loOf, numberOf, signedNumberOf } from "./address.ts";

const u64 = fc.oneof(
  fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
  fc.constantFrom(0n, 0xffff_ffffn, 0x1_0000_0000n, 0x7fff_ffff_ffff_ffffn, 1n << 63n, (1n << 64n) - 1n),
);

test("halves are signed 32-bit numbers that make up the address again", () => {
  fc.assert(
    fc.property(u64, (address) => {
      const [hi, lo] = [hiOf(address), loOf(address)];
      assert.equal(hi, hi | 0);
      assert.equal(lo, lo | 0);
      assert.equal(gvaOf(hi, lo), address);
    }),
  );
});

test("halves of a negative bigint are those of its two's complement", () => {
  assert.equal(gvaOf(hiOf(-4096n), loOf(-4096n)), 0xffff_ffff_ffff_f000n);
});

test("adding to halves is adding modulo 2^64", () => {
  fc.assert(
    fc.property(u64, fc.integer({ min: -(2 ** 31) + 1, max: 2 ** 31 - 1 }), (address, delta) => {
      const [hi, lo] = [hiOf(address), loOf(address)];
      const sum = gvaOf(addHi(hi, lo, delta), addLo(lo, delta));
      assert.equal(sum, BigInt.asUintN(64, address + BigInt(delta)));
    }),
  );
});

test("numbers of halves are exact up to 2^53", () => {
  fc.assert(
    fc.property(fc.maxSafeInteger(), (value) => {
      const [hi, lo] = [hiOf(BigInt(value)), loOf(BigInt(value))];
      assert.equal(signedNumberOf(hi, lo), value);
      if (value >= 0) assert.equal(numberOf(hi, lo), value);
    }),
  );
});

test("addresses are written as the kernel writes pointers", () => {
  fc.assert(
    fc.property(u64, (address) => {
      assert.equal(formatHalves(hiOf(address), loOf(address)), `0x${address.toString(16).padStart(16, "0")}`);
    }),
  );
});
