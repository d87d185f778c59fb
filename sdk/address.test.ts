import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { formatAddress, parseAddress } from "./address.ts";

test("addresses are read back as they are written", () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), (address) => {
      assert.equal(parseAddress(formatAddress(address)), address);
      assert.equal(parseAddress(`${address}`), address);
    }),
  );
  assert.equal(formatAddress(0xffffffff81000000n), "0xffffffff81000000");
  assert.equal(formatAddress(4096n), "0x0000000000001000");
});

test("what is not an address is refused with what to write", () => {
  for (const text of ["", "0x", "ffff", "-1", "0x1g", "1e3", " 1", "1n"]) {
    assert.throws(() => parseAddress(text), {
      rawMessage: `'${text}' is not an address: write hexadecimal, such as 0xffffffff81000000, or a decimal number`,
    });
  }
  assert.throws(() => parseAddress("0x1ffffffffffffffff"), {
    rawMessage: "0x1ffffffffffffffff is not an address of 64 bits",
  });
});
