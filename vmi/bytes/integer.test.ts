import assert from "node:assert/strict";
import { test } from "node:test";
import { hiOf, loOf } from "./address.ts";
import { difference, product, signedOf, unsignedOf } from "./integer.ts";

const values = [0n, 1n, 2n ** 32n - 1n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 53n + 1n, 2n ** 62n + 12_345n, 2n ** 63n - 1n];
/** A number where it is exact, and nowhere else. */
const narrow = (value: bigint) => (value >= -(2n ** 53n) + 1n && value < 2n ** 53n ? Number(value) : value);

test("values of 64 bits are exact, and numbers where those are", () => {
  for (const value of [...values, ...values.map((each) => -each), -(2n ** 63n)]) {
    const unsigned = BigInt.asUintN(64, value);
    assert.equal(signedOf(hiOf(unsigned), loOf(unsigned)), narrow(value));
    assert.equal(unsignedOf(hiOf(unsigned), loOf(unsigned)), narrow(unsigned));
  }
});

test("products and differences are exact", () => {
  assert.equal(product(3, 4096), 12_288);
  assert.equal(product(2 ** 50 + 1, 4096), (2n ** 50n + 1n) * 4096n);
  for (const from of values) {
    for (const other of values) assert.equal(difference(narrow(from), narrow(other)), narrow(from - other));
  }
});
