import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { GuestError } from "../errors.ts";
import { BtfWriter, type TypeRef } from "../testing/btf-writer.ts";
import { Btf } from "./btf.ts";

const member = (name: string, type: TypeRef | number, offset: number) => ({
  name,
  type: typeof type === "number" ? type : type.id,
  bits: offset * 8,
});

function idOf(btf: Btf, name: string): number {
  const id = btf.structs([name]).get(name);
  assert.notEqual(id, undefined, name);
  return id!;
}

function found(writer: BtfWriter, struct: string, path: string) {
  const btf = new Btf(writer.bytes());
  return btf.member(idOf(btf, struct), path);
}

test("structures and unions are found by name, the first of each; other kinds of that name are not", () => {
  const w = new BtfWriter();
  const int = w.int("int", 4);
  w.typedef("thing", int);
  w.raw("thing", 7, 0, 0);
  w.raw("", 6, 1, 4, [0, 5]);
  w.struct("thing", 24, [member("a", int, 4)]);
  w.struct("thing", 99, []);
  w.union("either", 8, [member("a", int, 0)]);
  const btf = new Btf(w.bytes());
  const ids = btf.structs(["thing", "either", "int", "thin", "things", ""]);
  assert.deepEqual([...ids.keys()].sort(), ["either", "thing"]);
  assert.equal(btf.sizeOf(ids.get("thing")!), 24);
  assert.equal(btf.sizeOf(ids.get("either")!), 8);
});

test("members have places and sizes, past typedefs and qualifiers", () => {
  const w = new BtfWriter();
  const int = w.int("int", 4);
  const qualified = w.typedef("v_t", w.qualified(9, w.qualified(10, w.typedef("c_t", w.qualified(18, int)))));
  const restricted = w.qualified(11, w.pointer(int.id));
  const float = w.raw("float", 16, 0, 4);
  const enumeration = w.raw("e", 6, 1, 4, [0, 1]);
  const wide = w.raw("e64", 19, 1, 8, [0, 1, 2]);
  w.struct("s", 64, [
    member("i", int, 0),
    member("q", qualified, 4),
    member("p", restricted, 8),
    member("grid", w.array(w.array(int, 3), 5), 16),
    member("f", float, 80),
    member("e", enumeration, 84),
    member("w", wide, 88),
    member("code", w.raw("", 13, 0, 0), 96),
  ]);
  const place = (path: string) => {
    const { offset, size } = found(w, "s", path)!;
    return [offset, size];
  };
  assert.deepEqual(place("i"), [0, 4]);
  assert.deepEqual(place("q"), [4, 4]);
  assert.deepEqual(place("p"), [8, 8]);
  assert.deepEqual(place("grid"), [16, 60]);
  assert.deepEqual(place("f"), [80, 4]);
  assert.deepEqual(place("e"), [84, 4]);
  assert.deepEqual(place("w"), [88, 8]);
  assert.deepEqual(place("code"), [96, 0]);
  assert.equal(found(w, "s", "j"), undefined);
  assert.equal(found(w, "s", "i.x"), undefined);
  assert.equal(found(w, "s", ""), undefined);
});

test("paths go through embedded structures, and through anonymous ones unsaid", () => {
  const w = new BtfWriter();
  const int = w.int("int", 4);
  const leaf = w.struct("leaf", 8, [member("x", int, 0), member("y", int, 4)]);
  const hidden = w.struct("", 16, [
    member("low", int, 0),
    member("leaf", w.qualified(10, w.typedef("leaf_t", leaf)), 8),
  ]);
  const choice = w.union("", 16, [member("number", int, 0), member("", hidden, 0)]);
  w.struct("outer", 40, [member("first", int, 0), member("", choice, 8), member("last", leaf, 24)]);
  const at = (path: string) => found(w, "outer", path)?.offset;
  assert.equal(at("low"), 8);
  assert.equal(at("number"), 8);
  assert.equal(at("leaf"), 16);
  assert.equal(at("leaf.y"), 20);
  assert.equal(at("last.y"), 28);
  assert.equal(at("first.y"), undefined);
  assert.equal(at("y"), undefined);
  assert.equal(at("leaf.y.z"), undefined);
});

test("bit fields, and plain members beside them", () => {
  const w = new BtfWriter();
  const int = w.int("unsigned int", 4);
  const inner = w.struct("", 8, [
    { name: "a", type: int.id, bits: 3, width: 5 },
    { name: "b", type: int.id, bits: 13, width: 1 },
    { name: "whole", type: int.id, bits: 32, width: 0 },
  ]);
  w.struct("s", 16, [member("", inner, 8)]);
  assert.deepEqual(found(w, "s", "a"), { offset: 8, bitOffset: 3, bitSize: 5, size: 4, type: int.id });
  assert.deepEqual(found(w, "s", "b"), { offset: 9, bitOffset: 5, bitSize: 1, size: 4, type: int.id });
  assert.deepEqual(found(w, "s", "whole"), { offset: 12, bitOffset: 0, bitSize: 0, size: 4, type: int.id });
});

test("the kinds behind a type have their lengths: what follows each is found", () => {
  const trailers: Record<number, number[]> = {
    1: [32],
    2: [],
    3: [1, 1, 2],
    4: [0, 1, 0, 0, 1, 8],
    5: [0, 1, 0, 0, 1, 8],
    6: [0, 1, 0, 2],
    7: [],
    8: [],
    9: [],
    10: [],
    11: [],
    12: [],
    13: [0, 1, 0, 1],
    14: [1],
    15: [1, 0, 4, 1, 4, 4],
    16: [],
    17: [0],
    18: [],
    19: [0, 1, 2, 0, 3, 4],
  };
  const counted = new Set([4, 5, 6, 13, 15, 19]);
  for (const [kind, words] of Object.entries(trailers)) {
    const w = new BtfWriter();
    const int = w.int("int", 4);
    w.raw("before", Number(kind), counted.has(Number(kind)) ? 2 : 0, 1, words);
    w.struct("after", 12, [member("x", int, 8)]);
    assert.equal(found(w, "after", "x")?.offset, 8, `kind ${kind}`);
  }
});

test("a kind that is not known is refused: what follows can't be found", () => {
  for (const kind of [0, 20, 31]) {
    const w = new BtfWriter();
    w.raw("new", kind, 0, 0);
    assert.throws(() => new Btf(w.bytes()), { name: "GuestError", kind: "unsupported-kernel" });
  }
});

test("a longer header is passed over", () => {
  const w = new BtfWriter();
  w.struct("s", 8, [member("x", w.int("int", 4), 4)]);
  const btf = new Btf(w.bytes(32));
  assert.equal(btf.member(idOf(btf, "s"), "x")?.offset, 4);
});

test("what is no BTF, or is cut, is refused", () => {
  const w = new BtfWriter();
  w.struct("s", 8, []);
  const whole = Buffer.from(w.bytes());
  const refused = { name: "GuestError", kind: "unsupported-kernel" };
  assert.throws(() => new Btf(new Uint8Array(4096)), refused);
  for (let length = 0; length < whole.length; length++) {
    assert.throws(() => new Btf(whole.subarray(0, length)), refused, `cut at ${length}`);
  }
  for (const at of [4, 8, 12, 16, 20]) {
    const bad = Buffer.from(whole);
    bad.writeUInt32LE(0xffff_fff0, at);
    assert.throws(() => new Btf(bad), refused, `word at ${at}`);
  }
});

test("typedefs in a circle, types that are not there, and structures within themselves have no members and an end", () => {
  const w = new BtfWriter();
  const int = w.int("int", 4);
  const first = w.raw("a", 8, 0, 3);
  const second = w.raw("b", 8, 0, first);
  const self = second + 1;
  w.struct("self", 8, [member("", self, 0), member("", self, 0), member("x", self, 0)]);
  w.struct("s", 8, [member("circle", first, 0), member("absent", 9999, 4), member("x", int, 4)]);
  const btf = new Btf(w.bytes());
  const s = idOf(btf, "s");
  assert.equal(btf.member(s, "circle")?.size, 0);
  assert.equal(btf.member(s, "circle.x"), undefined);
  assert.equal(btf.member(s, "absent")?.size, 0);
  assert.equal(btf.member(s, "absent.x"), undefined);
  assert.equal(btf.member(s, "x")?.offset, 4);
  assert.equal(btf.member(idOf(btf, "self"), "x")?.offset, 0);
  assert.equal(btf.member(12345, "x"), undefined);
  assert.equal(btf.sizeOf(first), 0);
});

test("anonymous structures that each hold many others do not make a search endless", () => {
  const w = new BtfWriter();
  const self = 1;
  w.struct(
    "s",
    8,
    Array.from({ length: 60_000 }, () => member("", self, 0)),
  );
  assert.equal(found(w, "s", "x"), undefined);
});

test("names without an end do not make a search endless", () => {
  const w = new BtfWriter();
  const long = "n".repeat(4 << 20);
  for (let i = 0; i < 20_000; i++) w.struct(long, 8, []);
  const btf = new Btf(w.bytes());
  assert.equal(btf.structs(["s"]).size, 0);
});

test("damaged BTF: answers or GuestError, and always an end", () => {
  const w = new BtfWriter();
  const int = w.int("int", 4);
  const list = w.struct("list_head", 16, [member("next", w.pointer(3), 0), member("prev", w.pointer(3), 8)]);
  const inner = w.struct("", 24, [member("count", int, 0), member("list", list, 8)]);
  w.struct("task", 64, [member("", inner, 0), member("names", w.array(int, 8), 32)]);
  const whole = w.bytes();
  let answered = 0;
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { maxLength: 8 }), (changes) => {
      const bad = Uint8Array.from(whole);
      for (const [at, value] of changes) bad[at] = value;
      try {
        const btf = new Btf(bad);
        const id = btf.structs(["task"]).get("task");
        for (const path of ["count", "list.prev", "names", "none"]) if (id !== undefined) btf.member(id, path);
        answered++;
      } catch (error) {
        assert.ok(error instanceof GuestError, String(error));
      }
    }),
    { numRuns: 500 },
  );
  assert.ok(answered > 0);
});
