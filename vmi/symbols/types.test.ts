import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Budget } from "../budget.ts";
import { GuestError } from "../errors.ts";
import { BtfWriter, type TypeRef } from "../testing/btf-writer.ts";
import { Btf } from "./btf.ts";
import { decodeObject } from "./object-text.ts";
import { declareType } from "./type-model.ts";
import { findType, layoutOf } from "./type-text.ts";

const field = (name: string, type: TypeRef | number, offset: number) => ({
  name,
  type: typeof type === "number" ? type : type.id,
  bits: offset * 8,
});

/** BTF_INT_SIGNED, with the number of bits. */
const signedInt = (w: BtfWriter, name: string, size: number): TypeRef => ({
  id: w.raw(name, 1, 0, size, [(1 << 24) | (size * 8)]),
  size,
});

function sample() {
  const w = new BtfWriter();
  const int = signedInt(w, "int", 4);
  const unsigned = w.int("unsigned int", 4);
  const long = signedInt(w, "long int", 8);
  const char = w.int("char", 1);
  const byte = w.int("unsigned char", 1);
  const bool = w.int("_Bool", 1);
  const pid = w.typedef("pid_t", int);
  const string = w.pointer(w.qualified(10, char).id);
  const handler = w.pointer(w.raw("", 13, 2, int.id, [0, string.id, 0, pid.id]));
  const state = w.raw("state", 6, 2, 4, [1, 0, 1, 7]);
  const inner = w.struct("pair", 8, [field("first", int, 0), field("second", unsigned, 4)]);
  const anonymous = w.union("", 8, [field("whole", long, 0), field("half", int, 0)]);
  const self = w.pointer(13);
  w.struct("thing", 136, [
    field("next", self, 0),
    field("call", handler, 8),
    field("name", w.array(char, 16), 16),
    field("", anonymous, 32),
    field("pair", inner, 40),
    field("pairs", w.array(inner, 3), 48),
    field("key", w.array(byte, 4), 72),
    field("up", bool, 76),
    field("mode", state, 80),
    field("names", w.array(string, 2), 88),
    field("big", w.array(long, 4), 104),
  ]);
  w.struct("bits", 8, [
    { name: "low", type: unsigned.id, bits: 0, width: 3 },
    { name: "high", type: int.id, bits: 13, width: 5 },
  ]);
  return { w, ids: { int, pid, string, handler, inner, anonymous } };
}

test("types are declared as C writes them", () => {
  const { w } = sample();
  const char = w.int("char", 1);
  const constant = w.pointer(w.qualified(10, char).id);
  const cases: [number, string][] = [
    [constant.id, "const char *x"],
    [w.qualified(10, w.pointer(char.id)).id, "char *const x"],
    [w.array(constant, 4).id, "const char *x[4]"],
    [w.pointer(w.array(char, 4).id).id, "char (*x)[4]"],
    [w.array(w.array(char, 3), 5).id, "char x[5][3]"],
    [w.pointer(w.raw("", 13, 0, 0)).id, "void (*x)(void)"],
    [w.pointer(w.raw("", 13, 1, constant.id, [0, char.id])).id, "const char *(*x)(char)"],
    [w.pointer(w.qualified(18, w.struct("tagged", 8, [])).id).id, "struct tagged *x"],
    [w.pointer(w.raw("later", 7, 0, 0)).id, "struct later *x"],
    [w.pointer(0).id, "void *x"],
    [9999, "? x"],
  ];
  const btf = new Btf(w.bytes());
  for (const [id, text] of cases) assert.equal(declareType(btf, id, "x"), text);
});

test("a structure is laid out with the members of anonymous ones", () => {
  const btf = new Btf(sample().w.bytes());
  const layout = layoutOf(btf, findType(btf, "struct thing"));
  assert.deepEqual(
    [layout.name, layout.kind, layout.declaration, layout.size],
    ["thing", "struct", "struct thing", 136],
  );
  assert.deepEqual(
    layout.members.map(({ path, declaration, depth, offset, size }) => [path, declaration, depth, offset, size]),
    [
      ["next", "struct pair *next", 0, 0, 8],
      ["call", "int (*call)(const char *, pid_t)", 0, 8, 8],
      ["name", "char name[16]", 0, 16, 16],
      ["", "union {…}", 0, 32, 8],
      ["whole", "long int whole", 1, 32, 8],
      ["half", "int half", 1, 32, 4],
      ["pair", "struct pair pair", 0, 40, 8],
      ["pairs", "struct pair pairs[3]", 0, 48, 24],
      ["key", "unsigned char key[4]", 0, 72, 4],
      ["up", "_Bool up", 0, 76, 1],
      ["mode", "enum state mode", 0, 80, 4],
      ["names", "const char *names[2]", 0, 88, 16],
      ["big", "long int big[4]", 0, 104, 32],
    ],
  );
  const bits = layoutOf(btf, findType(btf, "bits")).members;
  assert.deepEqual(
    bits.map(({ declaration, offset, bitOffset, bitSize }) => [declaration, offset, bitOffset, bitSize]),
    [
      ["unsigned int low : 3", 0, 0, 3],
      ["int high : 5", 1, 5, 5],
    ],
  );
});

test("typedefs, basic types and enumerations have layouts too, and a word before the name chooses", () => {
  const w = new BtfWriter();
  const int = signedInt(w, "int", 4);
  // The text at 1 is the first that was written: "int".
  w.raw("color", 6, 1, 4, [1, 5]);
  w.raw("wide", 19, 1, 8, [1, 0, 1], true);
  w.struct("color", 12, []);
  w.typedef("color", int);
  // What has no name must not be found by none.
  w.struct("", 4, []);
  const btf = new Btf(w.bytes());
  const kindOf = (name: string) => layoutOf(btf, findType(btf, name)).kind;
  assert.deepEqual(["color", "enum color", "struct  color", "int"].map(kindOf), ["struct", "enum", "struct", "int"]);
  assert.deepEqual(layoutOf(btf, findType(btf, "wide")).values, [{ name: "int", value: 1n << 32n }]);
  const refused = ["nothing", "union color", "", " ", "*", "color *", "struct {", "struct", "a'; b", "x".repeat(300)];
  for (const name of refused) {
    assert.throws(
      () => findType(btf, name),
      (error) => error instanceof GuestError && error.kind === "bad-request",
      name,
    );
  }
});

function decode(name: string, bytes: Uint8Array, depth?: number) {
  const btf = new Btf(sample().w.bytes());
  const symbolAt = (address: bigint) => (address === 0xffffffff81000010n ? "start+0x10" : "");
  return decodeObject(btf, findType(btf, name), bytes, new Budget(), { symbolAt, depth });
}

test("an object's members have values", () => {
  const bytes = Buffer.alloc(136);
  bytes.writeBigUInt64LE(0xffffffff81000010n, 0);
  bytes.write('a"b\x01\0junk', 16, "latin1");
  bytes.writeBigInt64LE(-2n, 32);
  bytes.writeInt32LE(-5, 40);
  bytes.writeUInt32LE(0xffff_ffff, 44);
  bytes.writeInt32LE(3, 64);
  bytes.set([0xde, 0xad, 0xbe, 0xef, 1], 72);
  bytes.writeUInt32LE(7, 80);
  const rows = decode("thing", bytes);
  const shown = (path: string) => rows.find((row) => row.path === path)?.value;
  assert.deepEqual([rows[0]!.value, rows[0]!.symbol, shown("call")], ["0xffffffff81000010", "start+0x10", "0x0"]);
  assert.equal(shown("name"), '"a\\"b\\x01"');
  assert.deepEqual([shown("whole"), shown("half")], ["-2", "-2"]);
  assert.deepEqual([shown("pair.first"), shown("pair.second")], ["-5", "4294967295"]);
  assert.deepEqual([shown("pairs[2].first"), shown("pairs[1].first")], ["3", "0"]);
  assert.deepEqual([shown("key"), shown("up")], ["deadbeef", "true"]);
  assert.equal(shown("mode"), "int");
  assert.equal(shown("names[1]"), "0x0");
  const shallow = decode("thing", bytes, 0);
  assert.equal(shallow.find((row) => row.path === "pair")?.value, "{…}");
  assert.ok(shallow.some((row) => row.path === "whole"));
  assert.deepEqual(
    decode("bits", Uint8Array.from([0b0101_0101, 0b1110_0000, 0b10, 0, 0, 0, 0, 0])).map(({ value }) => value),
    ["5", "-9"],
  );
  assert.deepEqual(
    decode("pid_t", Uint8Array.from([0xff, 0xff, 0xff, 0xff])).map(({ path, value }) => [path, value]),
    [["", "-1"]],
  );
});

test("what is behind the end of what could be read has no value", () => {
  const rows = decode("thing", Buffer.alloc(41));
  assert.equal(rows.find((row) => row.path === "whole")?.value, "0");
  for (const path of ["pair.first", "key", "big"])
    assert.deepEqual(
      rows.filter((row) => row.path === path).map(({ value, error }) => [value, error]),
      [["", "not in memory"]],
    );
  assert.equal(
    rows.find(({ path }) => path === "big[0]"),
    undefined,
  );
  // Of what is not there at all, nothing is said but that.
  const none = decode("thing", new Uint8Array(0));
  assert.deepEqual(new Set(none.map(({ value, error }) => `${value}${error}`)), new Set(["not in memory"]));
});

test("types that go in circles or have absurd sizes end", () => {
  const w = new BtfWriter();
  const int = w.int("int", 4);
  // Ids 2 to 6: each may refer to itself or to a later one.
  w.raw("loop", 8, 0, 2);
  w.struct("inside", 8, [field("again", 3, 0), field("", 3, 4)]);
  w.raw("", 3, 0, 0, [4, 4, 0xffff_ffff]);
  w.struct("wide", 8, [field("all", 4, 0), field("long", w.array(int, 0xffff_ffff), 0), field("p", 7, 0)]);
  w.pointer(7);
  const btf = new Btf(w.bytes());
  for (const name of ["loop", "inside", "wide"]) {
    const id = findType(btf, name);
    layoutOf(btf, id);
    const rows = decodeObject(btf, id, new Uint8Array(64), new Budget(), { symbolAt: () => "", depth: 16 });
    assert.ok(rows.length <= 4096);
  }
});

test("damaged types end in an answer or a GuestError", () => {
  const whole = sample().w.bytes();
  const flips = fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 20 });
  fc.assert(
    fc.property(flips, (changes) => {
      const bytes = Uint8Array.from(whole);
      for (const [at, value] of changes) bytes[at] = value;
      try {
        const btf = new Btf(bytes);
        for (const name of ["thing", "bits", "pid_t"]) {
          const id = findType(btf, name);
          layoutOf(btf, id);
          decodeObject(btf, id, new Uint8Array(32), new Budget(), { symbolAt: () => "" });
        }
      } catch (error) {
        assert.ok(error instanceof GuestError, String(error));
      }
    }),
    { numRuns: 500 },
  );
});
