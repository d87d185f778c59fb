import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { GuestError } from "../errors.ts";
import { Btf } from "./btf.ts";
import { btfOfIsf } from "./isf.ts";
import { kallsymsOfLinked, symbolsOfIsf } from "./isf-symbols.ts";
import { Kallsyms } from "./kallsyms.ts";
import { findType, layoutOf } from "./type-text.ts";

const TEXT = 0xffff_ffff_8100_0000n;

const text = `{
  "metadata": {"producer": {"name": "x \\" } { ,"}, "list": [1, {"a": []}, "]"], "number": -1.5e3, "flag": true},
  "base_types": {
    "int": {"size": 4, "signed": true, "kind": "int", "endian": "little"},
    "long unsigned int": {"size": 8, "signed": false, "kind": "int", "endian": "little"},
    "bool": {"size": 1, "signed": false, "kind": "bool", "endian": "little"},
    "void": {"size": 0, "signed": false, "kind": "void", "endian": "little"},
    "pointer": {"size": 8, "signed": false, "kind": "int", "endian": "little"}
  },
  "user_types": {
    "thing": {"size": 64, "kind": "struct", "fields": {
      "flag": {"type": {"kind": "bitfield", "bit_position": 3, "bit_length": 2, "type": {"kind": "base", "name": "int"}}, "offset": 60},
      "call": {"type": {"kind": "pointer", "subtype": {"kind": "function"}}, "offset": 8},
      "unnamed_field_16": {"type": {"kind": "union", "name": "unnamed_1f"}, "anonymous": true, "offset": 16},
      "next": {"type": {"kind": "pointer", "subtype": {"kind": "struct", "name": "thing"}}, "offset": 0},
      "mode": {"type": {"kind": "enum", "name": "mode"}, "offset": 56},
      "grid": {"type": {"kind": "array", "count": 4, "subtype": {"kind": "base", "name": "int"}}, "offset": 24},
      "opaque": {"type": {"kind": "pointer", "subtype": {"kind": "struct", "name": "elsewhere"}}, "offset": 40},
      "any": {"type": {"kind": "pointer", "subtype": {"kind": "base", "name": "void"}}, "offset": 48}
    }},
    "unnamed_1f": {"size": 8, "kind": "union", "fields": {
      "whole": {"type": {"kind": "base", "name": "long unsigned int"}, "offset": 0},
      "half": {"type": {"kind": "base", "name": "int"}, "offset": 0}
    }}
  },
  "enums": {"mode": {"size": 4, "base": "int", "constants": {"OFF": 0, "ON": -1}},
            "wide": {"size": 8, "base": "long", "constants": {"HIGH": 4294967296}}},
  "symbols": {"init_task": {"address": 1}}
}`;

test("structures, enumerations and all kinds of members", () => {
  const btf = new Btf(btfOfIsf(Buffer.from(text)));
  const { size, members } = layoutOf(btf, findType(btf, "struct thing"));
  assert.equal(size, 64);
  assert.deepEqual(
    members.map(({ declaration, offset, bitOffset, bitSize }) => [declaration, offset, bitOffset, bitSize]),
    [
      ["struct thing *next", 0, 0, 0],
      ["void (*call)(void)", 8, 0, 0],
      ["union {…}", 16, 0, 0],
      ["long unsigned int whole", 16, 0, 0],
      ["int half", 16, 0, 0],
      ["int grid[4]", 24, 0, 0],
      ["struct elsewhere *opaque", 40, 0, 0],
      ["void *any", 48, 0, 0],
      ["enum mode mode", 56, 0, 0],
      ["int flag : 2", 60, 3, 2],
    ],
  );
  const values = (name: string) => layoutOf(btf, findType(btf, name)).values;
  assert.deepEqual(values("mode"), [
    { name: "OFF", value: 0n },
    { name: "ON", value: -1n },
  ]);
  assert.deepEqual(values("wide"), [{ name: "HIGH", value: 1n << 32n }]);
});

test("members are found as in the kernel's own types", () => {
  const btf = new Btf(btfOfIsf(Buffer.from(text)));
  const id = btf.structs(["thing"]).get("thing")!;
  assert.equal(btf.sizeOf(id), 64);
  assert.deepEqual([btf.member(id, "half")?.offset, btf.member(id, "grid")?.size], [16, 16]);
});

test("symbols, to the last digit of their addresses", () => {
  assert.deepEqual(symbolsOfIsf(Buffer.from(text)), {
    names: ["init_task"],
    addresses: BigUint64Array.of(1n),
    banner: undefined,
  });
  const symbols = `{"symbols": {
    "linux_banner": {"constant_data": "TGludXggdmVyc2lvbgoA", "type": {"a": {}}, "address": 18446744071595753697},
    "pcpu": {"address": 4096}, "a b": {"address": 5}, "${"q".repeat(200)}": {"address": 18446744071578845184}
  }}`;
  const found = symbolsOfIsf(Buffer.from(symbols))!;
  assert.deepEqual(found.names, ["linux_banner", "pcpu", "q".repeat(200)]);
  assert.deepEqual([...found.addresses], [0xffff_ffff_8202_00e1n, 4096n, TEXT]);
  assert.equal(found.banner?.toString(), "Linux version\n");
  assert.equal(symbolsOfIsf(Buffer.from('{"symbols": {}}')), undefined);
  assert.equal(symbolsOfIsf(Buffer.from("{}")), undefined);
  for (const wrong of ['{"symbols": {"a": {}}}', '{"symbols": {"a": {"address": -1}}}', '{"symbols": {"a": 7}}']) {
    assert.throws(() => symbolsOfIsf(Buffer.from(wrong)), { kind: "bad-request" });
  }
});

test("symbols as a table: in the order of addresses, those of the image moved", () => {
  const kallsyms = new Kallsyms(
    kallsymsOfLinked(
      {
        names: ["late", "_stext", "pcpu", "x".repeat(300)],
        addresses: BigUint64Array.of(TEXT + 64n, TEXT, 8n, TEXT),
        banner: undefined,
      },
      0x20_0000,
    ),
  );
  kallsyms.calibrate("_stext", kallsyms.find(["_stext"]).get("_stext"), TEXT + 0x20_0000n);
  assert.deepEqual(
    [...kallsyms].map(({ name, type, address }) => [name, type, address]),
    [
      ["pcpu", "?", 8n],
      ["_stext", "?", TEXT + 0x20_0000n],
      ["x".repeat(300), "?", TEXT + 0x20_0000n],
      ["late", "?", TEXT + 0x20_0040n],
    ],
  );
  assert.equal(kallsyms.before(TEXT + 0x20_0041n)?.name, "late");
});

test("damaged files: a GuestError, and always an end", () => {
  const whole = Buffer.from(text);
  const flips = fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 10 });
  fc.assert(
    fc.property(flips, fc.nat(whole.length), (changes, length) => {
      const bytes = Buffer.from(whole.subarray(0, length % 3 === 0 ? length : whole.length));
      for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
      try {
        const btf = new Btf(btfOfIsf(bytes));
        for (const [, id] of btf.structs(["thing"])) layoutOf(btf, id);
        symbolsOfIsf(bytes);
      } catch (error) {
        assert.ok(error instanceof GuestError, String(error));
      }
    }),
    { numRuns: 500 },
  );
});
