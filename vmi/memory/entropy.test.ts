import assert from "node:assert/strict";
import { randomFillSync } from "node:crypto";
import { test } from "node:test";
import { PAGE_SIZE } from "../bytes/address.ts";
import { Ram } from "../testing/ram.ts";
import { looksEncrypted } from "./entropy.ts";

const MEBIBYTE = 1 << 20;

function ramOf(pageOf: (gfn: number) => Uint8Array | undefined): Ram {
  const ram = new Ram([[0, 32 * MEBIBYTE]]);
  for (let gpa = 0; gpa < ram.end; gpa += MEBIBYTE) {
    const page = pageOf(gpa / MEBIBYTE);
    if (page !== undefined) ram.bytes.set(page, gpa);
  }
  return ram;
}

const noise = () => randomFillSync(new Uint8Array(PAGE_SIZE));
const words = Buffer.alloc(PAGE_SIZE, "the quick brown fox ");

test("noise is encrypted memory; text, zeros, and a guest with a few compressed pages are not", () => {
  assert.equal(looksEncrypted(ramOf(noise).mapped()), true);
  assert.equal(looksEncrypted(ramOf((i) => (i % 2 === 0 ? noise() : undefined)).paged()), true);
  assert.equal(looksEncrypted(ramOf(() => words).mapped()), false);
  assert.equal(looksEncrypted(ramOf(() => undefined).mapped()), false);
  assert.equal(looksEncrypted(ramOf((i) => (i % 4 === 0 ? words : noise())).mapped()), false);
  assert.equal(looksEncrypted(ramOf((i) => (i < 3 ? noise() : undefined)).mapped()), false, "too few to say");
});
