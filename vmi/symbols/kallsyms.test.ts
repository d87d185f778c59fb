import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { GuestError } from "../errors.ts";
import { type KallsymsEncoding, type SymbolEntry, writeKallsyms } from "../testing/kallsyms-writer.ts";
import { Kallsyms, type KallsymsParts } from "./kallsyms.ts";

const TEXT = 0xffff_ffff_9300_0000n;
const PLACE = TEXT + 0x100_0000n;
const encodings: readonly KallsymsEncoding[] = ["base", "percpu", "place"];

/** More than two markers' worth, with names of every token and one that needs two bytes of length. */
const symbols: SymbolEntry[] = [
  { name: "_text", type: "T", address: TEXT },
  { name: "_stext", type: "T", address: TEXT },
  { name: "startup_64", type: "T", address: TEXT },
  ...Array.from({ length: 700 }, (_, i) => ({
    name: `sys_call_${i}`,
    type: i % 3 === 0 ? "t" : "T",
    address: TEXT + BigInt(0x100 + i * 0x40),
  })),
  { name: `x${"q".repeat(299)}`, type: "t", address: TEXT + 0x10_0000n },
  { name: `__init_${"r".repeat(121)}`, type: "t", address: TEXT + 0x10_0010n },
  { name: "same_place", type: "D", address: TEXT + 0x20_0000n },
  { name: "same_place_too", type: "d", address: TEXT + 0x20_0000n },
  { name: "sys_call_5", type: "b", address: TEXT + 0x20_0040n },
];

function calibrated(encoding: KallsymsEncoding, list = symbols): Kallsyms {
  const kallsyms = new Kallsyms(writeKallsyms(list, encoding, PLACE));
  kallsyms.calibrate("_stext", kallsyms.find(["_stext"]).get("_stext"), TEXT);
  return kallsyms;
}

for (const encoding of encodings) {
  test(`${encoding}: every symbol is found by name, by place and in turn`, () => {
    const kallsyms = calibrated(encoding);
    assert.equal(kallsyms.count, symbols.length);
    assert.deepEqual(
      [...kallsyms],
      symbols.map((symbol, index) => ({ ...symbol, index })),
    );
    const found = kallsyms.find(symbols.map(({ name }) => name));
    symbols.forEach(({ name, address, type }, i) => {
      const first = symbols.findIndex((symbol) => symbol.name === name);
      const symbol = kallsyms.at(found.get(name)!)!;
      assert.equal(symbol.index, first);
      assert.equal(symbol.name, name);
      if (first === i) assert.deepEqual([symbol.address, symbol.type], [address, type]);
      assert.equal(kallsyms.address(i), address);
    });
  });

  test(`${encoding}: the symbol before an address is the first of those at the last place`, () => {
    const kallsyms = calibrated(encoding);
    const before = (address: bigint) => kallsyms.before(address)?.name;
    assert.equal(before(TEXT - 1n), undefined);
    assert.equal(before(0n), undefined);
    assert.equal(before(TEXT), "_text");
    assert.equal(before(TEXT + 0x13fn), "sys_call_0");
    assert.equal(before(TEXT + 0x140n), "sys_call_1");
    assert.equal(before(TEXT + 0x100n + 699n * 0x40n + 5n), "sys_call_699");
    assert.equal(before(TEXT + 0x20_0000n), "same_place");
    assert.equal(before(TEXT + 0x20_003fn), "same_place");
    assert.equal(before((1n << 64n) - 1n), "sys_call_5");
  });
}

test("per-CPU symbols keep their absolute addresses", () => {
  const list = [{ name: "pcpu_hot", type: "A", address: 0x1_f000n }, ...symbols];
  const kallsyms = calibrated("percpu", list);
  assert.equal(kallsyms.at(kallsyms.find(["pcpu_hot"]).get("pcpu_hot")!)?.address, 0x1_f000n);
  assert.equal(kallsyms.before(0x2_0000n)?.name, "pcpu_hot");
});

test("names that the kernel does not have are not found, though they are parts of others", () => {
  const kallsyms = calibrated("base");
  assert.deepEqual([...kallsyms.find(["sys_call", "all_5", "_stex", "Ttext", "T_stext", "qq"]).keys()], []);
});

test("a name that is asked for twice is found once", () => {
  assert.deepEqual([...calibrated("base").find(["_stext", "_stext"]).keys()], ["_stext"]);
});

test("generated tables: what is written is read", () => {
  const name = fc.stringMatching(/^[a-zA-Z_][a-zA-Z0-9_.$]{0,40}$/);
  fc.assert(
    fc.property(
      fc.array(fc.tuple(name, fc.nat(0xfffff)), { minLength: 1, maxLength: 80 }),
      fc.constantFrom(...encodings),
      (names, encoding) => {
        let address = TEXT;
        const list = [
          { name: "_stext", type: "T", address },
          ...names.map(([name, step]) => {
            address += BigInt(step);
            return { name, type: "t", address };
          }),
        ];
        assert.deepEqual(
          [...calibrated(encoding, list)].map(({ name, type, address }) => ({ name, type, address })),
          list,
        );
      },
    ),
    { numRuns: 50 },
  );
});

test("an encoding that gives no known symbol its address is refused", () => {
  const kallsyms = new Kallsyms(writeKallsyms(symbols, "base", PLACE));
  const where = kallsyms.find(["_stext"]).get("_stext");
  const refused = { name: "GuestError", kind: "unsupported-kernel" };
  assert.throws(() => kallsyms.calibrate("_stext", where, TEXT + 4n), refused);
  assert.throws(() => kallsyms.calibrate("startup_64", where, TEXT), refused);
  assert.throws(() => kallsyms.calibrate("_stext", undefined, TEXT), refused);
  assert.throws(() => kallsyms.calibrate("_stext", { index: 1, position: 1 << 30 }, TEXT), refused);
});

test("a position where no entry can be gives no symbol", () => {
  const kallsyms = calibrated("base");
  assert.equal(kallsyms.at({ index: 0, position: -1 }), undefined);
  assert.equal(kallsyms.at({ index: 0, position: 1 << 30 }), undefined);
  assert.equal(kallsyms.at({ index: -1, position: 0 }), undefined);
  assert.equal(kallsyms.at({ index: symbols.length, position: 0 }), undefined);
});

test("tokens that lie outside their table, have no end or are endless are refused", () => {
  const parts = writeKallsyms(symbols, "base", PLACE);
  const refused = { name: "GuestError", kind: "unsupported-kernel" };
  const index = Buffer.from(parts.tokenIndex);
  index.writeUInt16LE(0xffff, 200);
  assert.throws(() => new Kallsyms({ ...parts, tokenIndex: index }), refused);
  assert.throws(() => new Kallsyms({ ...parts, tokenTable: Buffer.alloc(4096, 0x61) }), refused);
  // 256 tokens of 8 MiB each would not fit into an inspector.
  const huge = Buffer.alloc(8 << 20, 0x61);
  huge[huge.length - 1] = 0;
  assert.throws(() => new Kallsyms({ ...parts, tokenTable: huge }), refused);
});

class Counting extends Kallsyms {
  looks = 0;
  override address(index: number): bigint {
    this.looks++;
    return super.address(index);
  }
}

test("a table of one place for everything is searched as quickly as any", () => {
  const count = 1 << 20;
  const parts = { ...writeKallsyms(symbols, "base", PLACE), offsets: new Uint8Array(count * 4), count };
  const kallsyms = new Counting(parts);
  kallsyms.calibrate("_stext", kallsyms.find(["_stext"]).get("_stext"), TEXT);
  assert.equal(kallsyms.before(TEXT)?.index, 0);
  assert.ok(kallsyms.looks < 100, `${kallsyms.looks} addresses were looked at`);
});

test("damaged tables: answers or GuestError, and always an end", () => {
  const parts = writeKallsyms(symbols, "base", PLACE);
  const damage = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 30 });
  const damaged = (bytes: Uint8Array, changes: readonly (readonly [number, number])[]) => {
    const copy = Uint8Array.from(bytes);
    for (const [at, value] of changes) copy[at % copy.length] = value;
    return copy;
  };
  fc.assert(
    fc.property(damage, damage, damage, fc.nat(2000), fc.nat(), (names, tokens, index, more, cut) => {
      const bad: KallsymsParts = {
        ...parts,
        names: damaged(parts.names, names).subarray(0, cut % 4 === 0 ? (cut >> 2) % parts.names.length : undefined),
        tokenTable: damaged(parts.tokenTable, tokens),
        tokenIndex: damaged(parts.tokenIndex, index),
        offsets: new Uint8Array((parts.count + more) * 4),
        count: parts.count + more,
      };
      try {
        const kallsyms = new Kallsyms(bad);
        const found = kallsyms.find(["_stext", "sys_call_699", "none"]);
        kallsyms.calibrate("_stext", found.get("_stext"), kallsyms.count > 0 ? TEXT : 0n);
        let symbolCount = 0;
        for (const symbol of kallsyms) symbolCount += symbol.name.length >= 0 ? 1 : 0;
        assert.ok(symbolCount <= bad.count);
        kallsyms.before(TEXT + 5n);
      } catch (error) {
        assert.ok(error instanceof GuestError, String(error));
      }
    }),
    { numRuns: 200 },
  );
});
