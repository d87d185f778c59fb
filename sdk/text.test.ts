import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { bytesToText, textsOf, textToBytes } from "./text.ts";

test("valid UTF-8 reads as it is meant", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme" }), (text) => {
      const bytes = new TextEncoder().encode(text);
      assert.equal(bytesToText(bytes), text);
      assert.deepEqual(textToBytes(text), bytes);
    }),
  );
});

test("any bytes come back", () => {
  const mostlyText = fc.array(
    fc.oneof(
      fc.uint8Array({ maxLength: 3 }),
      fc.string({ unit: "binary" }).map((text) => Buffer.from(text)),
    ),
  );
  fc.assert(
    fc.property(mostlyText, (parts) => {
      const bytes = new Uint8Array(Buffer.concat(parts));
      assert.deepEqual(textToBytes(bytesToText(bytes)), bytes);
    }),
  );
});

test("parts of a region read as each does alone", () => {
  const part = fc.oneof(
    fc.uint8Array({ maxLength: 40 }),
    fc.string({ maxLength: 40 }).map((text) => new Uint8Array(Buffer.from(text))),
  );
  fc.assert(
    fc.property(fc.array(part), fc.nat(20), (parts, before) => {
      const buffer = Buffer.concat([Buffer.alloc(before, 0xff), ...parts]);
      const textOf = textsOf(buffer, before, buffer.length);
      let at = before;
      for (const bytes of parts) {
        assert.equal(textOf(at, at + bytes.length), bytesToText(bytes));
        at += bytes.length;
      }
    }),
  );
});

test("bytes that are not UTF-8 are lone surrogates, as Python's surrogateescape has them", () => {
  const cases: [number[], string][] = [
    [[0x61, 0xff, 0x62], "a\udcffb"],
    [[0xc3], "\udcc3"],
    // Overlong, an encoded surrogate, beyond U+10FFFF: none is UTF-8.
    [[0xc0, 0x80], "\udcc0\udc80"],
    [[0xed, 0xa0, 0x80], "\udced\udca0\udc80"],
    [[0xf4, 0x90, 0x80, 0x80], "\udcf4\udc90\udc80\udc80"],
    [[0xf0, 0x9f, 0xa6, 0x80, 0x80], "🦀\udc80"],
  ];
  for (const [bytes, text] of cases) {
    assert.equal(bytesToText(Uint8Array.from(bytes)), text);
    assert.deepEqual(textToBytes(text), Uint8Array.from(bytes));
  }
});

test("lone surrogates that stand for no byte are refused", () => {
  for (const text of ["\ud800", "a\udc00", "\udc7f"]) assert.throws(() => textToBytes(text), /stands for no byte/);
});
