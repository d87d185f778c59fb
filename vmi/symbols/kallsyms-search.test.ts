import assert from "node:assert/strict";
import { randomFillSync } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import { GuestError } from "../errors.ts";
import {
  type KallsymsEncoding,
  type KallsymsOrder,
  layKallsyms,
  type SymbolEntry,
} from "../testing/kallsyms-writer.ts";
import { Kallsyms } from "./kallsyms.ts";
import { type FoundKallsyms, findKallsyms, type ImagePiece, type Prove } from "./kallsyms-search.ts";

const TEXT = 0xffff_ffff_9300_0000n;
const IMAGE = TEXT + 0x100_0000n;
const DIGITS = Buffer.from(Array.from({ length: 10 }, (_, i) => `${i}\0`).join(""));

function symbolsOf(count: number): SymbolEntry[] {
  const listed = Array.from({ length: count }, (_, i) => ({
    name: i === 0 ? "_stext" : `${i % 7 === 0 ? "kallsyms_" : "do_"}call_${i}`,
    type: i % 3 === 0 ? "T" : "t",
    address: TEXT + BigInt(i * 0x40),
  }));
  if (count > 20) listed[20] = { ...listed[20]!, name: `x${"q".repeat(199)}` };
  return listed;
}

interface Image {
  readonly bytes: Buffer;
  readonly symbols: readonly SymbolEntry[];
  readonly digits: bigint;
}

function imageOf(
  count: number,
  form: { encoding: KallsymsEncoding; order: KallsymsOrder; alignment?: 4 | 8 },
  at = 0x2_3458,
): Image {
  const symbols = symbolsOf(count);
  const laid = layKallsyms(symbols, { ...form, shortLengths: form.order === "4.20" }, IMAGE + BigInt(at));
  const bytes = Buffer.alloc(at + laid.bytes.length + 0x1000);
  randomFillSync(bytes);
  bytes.set(laid.bytes, at);
  const table = Number(laid.places.get("kallsyms_token_table")! - IMAGE);
  return { bytes, symbols, digits: IMAGE + BigInt(bytes.indexOf(DIGITS, table)) };
}

/** Counts what is read of it. */
class Piece implements ImagePiece {
  readonly address = IMAGE;
  readonly bytes: Buffer;
  bytesRead = 0;
  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }
  get length(): number {
    return this.bytes.length;
  }
  read(from: number, length: number): Uint8Array | undefined {
    if (from < 0 || length < 0 || from + length > this.length) return undefined;
    this.bytesRead += length;
    return this.bytes.subarray(from, from + length);
  }
}

const byText: Prove = (variants) => {
  for (const parts of variants) {
    try {
      const kallsyms = new Kallsyms(parts);
      kallsyms.calibrate("_stext", kallsyms.find(["_stext"]).get("_stext"), TEXT);
      return { kallsyms, parts };
    } catch (error) {
      assert.ok(error instanceof GuestError, String(error));
    }
  }
  return undefined;
};

const find = (bytes: Buffer, hints?: readonly bigint[]): FoundKallsyms | undefined =>
  findKallsyms(() => [new Piece(bytes)], byText, hints);

for (const order of ["6.4", "6.2", "4.20"] as const) {
  for (const encoding of ["base", "percpu", "place", "whole"] as const) {
    // No release had these.
    if (encoding === (order === "6.4" ? "whole" : "place")) continue;
    test(`order of ${order}, addresses ${encoding}: every symbol of tables of any length`, () => {
      for (const count of [2, 21, 255, 256, 257, 512, 1000]) {
        const { bytes, symbols, digits } = imageOf(count, { encoding, order });
        const found = find(bytes);
        assert.ok(found !== undefined, `${count}`);
        assert.equal(found.digits, digits);
        assert.deepEqual(
          [...found.kallsyms],
          symbols.map((symbol, index) => ({ ...symbol, index })),
        );
      }
    });
  }
}

test("tables aligned to words", () => {
  for (const count of [100, 511, 1000, 1001]) {
    const { bytes, symbols } = imageOf(count, { encoding: "place", order: "6.4", alignment: 4 }, 0x2_345c);
    assert.equal(find(bytes)?.kallsyms.count, symbols.length);
  }
});

test("a table is found again where it was, without a search, and by a wrong hint too", () => {
  const { bytes, digits } = imageOf(1000, { encoding: "percpu", order: "4.20" }, 0x80_0000);
  const [searched, hinted] = [new Piece(bytes), new Piece(bytes)];
  // Behind it are a thousand runs of digits that lead nowhere; before it, where they would be met first, too.
  for (let at = 0; at < 1000; at++) bytes.set(DIGITS, at * 64);
  assert.equal(findKallsyms(() => [searched], byText)?.digits, digits);
  assert.equal(findKallsyms(() => [hinted], byText, [IMAGE - 5n, digits])?.digits, digits);
  assert.ok(hinted.bytesRead < searched.bytesRead / 4, `${hinted.bytesRead} of ${searched.bytesRead} bytes`);
  for (const hint of [0n, IMAGE, digits + 2n, IMAGE + BigInt(bytes.length) - 1n, 1n << 64n])
    assert.equal(find(bytes, [hint])?.digits, digits);
});

test("of two tables the one that can be proven", () => {
  const real = imageOf(600, { encoding: "base", order: "6.4" });
  const forged = layKallsyms(
    symbolsOf(600).map((symbol) => ({ ...symbol, address: symbol.address + 0x1000n })),
    { encoding: "base", order: "6.4" },
    IMAGE,
  );
  const bytes = Buffer.concat([forged.bytes, Buffer.alloc(0x1000 - (forged.bytes.length % 0x1000)), real.bytes]);
  const found = find(bytes);
  assert.equal(found?.kallsyms.at(found.kallsyms.find(["do_call_1"]).get("do_call_1")!)?.address, TEXT + 0x40n);
});

test("no table, none that fits, and pieces that can't be read", () => {
  assert.equal(find(Buffer.alloc(1 << 20)), undefined);
  assert.equal(find(Buffer.alloc(0)), undefined);
  const { bytes } = imageOf(600, { encoding: "base", order: "4.20" });
  const blind: ImagePiece = { address: IMAGE, length: bytes.length, read: () => undefined };
  assert.equal(
    findKallsyms(() => [blind], byText),
    undefined,
  );
  assert.equal(
    findKallsyms(
      () => [new Piece(bytes)],
      () => undefined,
    ),
    undefined,
  );
});

test("an image of nothing but digits, and one of nothing but token tables, are given up", () => {
  const digits = new Piece(Buffer.alloc(8 << 20, DIGITS));
  assert.equal(
    findKallsyms(() => [digits], byText),
    undefined,
  );
  assert.ok(digits.bytesRead < 2 ** 31, `${digits.bytesRead} bytes`);
  const laid = layKallsyms(symbolsOf(300), { encoding: "base", order: "6.4" }, IMAGE);
  const table = Number(laid.places.get("kallsyms_token_table")! - IMAGE);
  const tokens = laid.bytes.subarray(table, Number(laid.places.get("kallsyms_offsets")! - IMAGE));
  const tables = new Piece(Buffer.alloc(8 << 20, Buffer.concat([tokens, Buffer.alloc(8 - (tokens.length % 8))])));
  let proofs = 0;
  const found = findKallsyms(
    () => [tables],
    () => {
      proofs++;
      return undefined;
    },
  );
  assert.equal(found, undefined);
  assert.ok(proofs < 100, `${proofs} proofs`);
});

test("markers that rise for ever, and counts that fit everywhere, are given up", () => {
  const { bytes, digits } = imageOf(600, { encoding: "base", order: "6.4" }, 0x40_0000);
  const table = bytes.lastIndexOf(Buffer.from("\0\0", "latin1"), Number(digits - IMAGE)) & ~7;
  for (let at = table - 4, value = 0x7fff_0000; at >= 0; at -= 4, value -= 600)
    bytes.writeUInt32LE(Math.max(value, 0), at);
  const started = performance.now();
  assert.equal(find(bytes), undefined);
  for (let at = 0; at < table - 8; at += 8) {
    bytes.writeUInt32LE(200, at);
    bytes.writeUInt32LE(0, at + 4);
  }
  assert.equal(find(bytes), undefined);
  assert.ok(performance.now() - started < 5000);
});

test("damaged tables: found, or not, and always an end", () => {
  const whole = imageOf(700, { encoding: "percpu", order: "6.2" });
  const near = fc.tuple(fc.nat(0xffff), fc.nat(255));
  fc.assert(
    fc.property(fc.array(near, { minLength: 1, maxLength: 12 }), fc.nat(), (changes, cut) => {
      const bytes = Buffer.from(cut % 3 === 0 ? whole.bytes.subarray(0, cut % whole.bytes.length) : whole.bytes);
      for (const [back, value] of changes) if (back < bytes.length) bytes[bytes.length - 1 - back] = value;
      const found = find(bytes);
      if (found !== undefined) assert.equal(found.kallsyms.count, whole.symbols.length);
    }),
    { numRuns: 300 },
  );
});
