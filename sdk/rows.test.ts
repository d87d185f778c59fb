import assert from "node:assert/strict";
import { test } from "node:test";
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { Code, ConnectError } from "@connectrpc/connect";
import fc from "fast-check";
import { ColumnType, ReadTableResponseSchema } from "../proto/gen/cloudvmi/v1/guest_pb.ts";
import type { Cell } from "./cells.ts";
import { type Batch, createRowDecoder } from "./rows.ts";

type Init = MessageInitShape<typeof ReadTableResponseSchema>;

const encode = (init: Init): Uint8Array => toBinary(ReadTableResponseSchema, create(ReadTableResponseSchema, init));

/** Both ways of decoding, which must agree. */
function decode(init: Init): Batch {
  const bytes = encode(init);
  const byBytes = createRowDecoder().bytes(bytes);
  const byMessage = createRowDecoder().message(fromBinary(ReadTableResponseSchema, bytes));
  assert.deepEqual(byBytes, byMessage);
  return byBytes;
}

const int64 = fc.oneof(
  fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n }),
  // About the limits of each length of a varint, and of what a number holds exactly.
  fc
    .tuple(fc.integer({ min: 0, max: 62 }), fc.integer({ min: -2, max: 2 }), fc.boolean())
    .map(([bit, off, negative]) => {
      const value = (1n << BigInt(bit)) + BigInt(off);
      return negative ? -value : value;
    }),
);

test("every cell is what was sent, by bytes as by message", () => {
  const row = fc.record({
    integer: int64,
    real: fc.double(),
    text: fc.string({ unit: "binary" }),
    state: fc.integer({ min: 0, max: 5 }),
  });
  fc.assert(
    fc.property(fc.array(row, { minLength: 1, maxLength: 30 }), (rows) => {
      const header = [
        { name: "i", type: ColumnType.INTEGER },
        { name: "r", type: ColumnType.REAL },
        { name: "t", type: ColumnType.TEXT },
        { name: "s", type: ColumnType.INTEGER },
      ];
      const columns = [
        { integers: rows.map(({ integer }) => integer) },
        { reals: rows.map(({ real }) => real) },
        { texts: rows.map(({ text }) => Buffer.from(text)) },
        { integers: rows.map(() => 7n), states: Uint8Array.from(rows, ({ state }) => state) },
      ];
      const decoded = decode({ header, rows: rows.length, columns }).rows;
      for (const [at, { integer, real, text, state }] of rows.entries()) {
        const exact = Number.isSafeInteger(Number(integer)) ? Number(integer) : integer;
        const byState: Cell[] = [
          7,
          null,
          { state: "unreadable" },
          { state: "torn" },
          { state: "unsupported" },
          { state: "unsupported" },
        ];
        assert.deepEqual(decoded[at], { i: exact, r: real, t: Buffer.from(text).toString("utf8"), s: byState[state] });
      }
    }),
  );
});

test("the header comes once, and a summary may come alone", () => {
  const decoder = createRowDecoder();
  const header = [{ name: "pid", type: ColumnType.INTEGER }];
  assert.deepEqual(decoder.bytes(encode({ header, rows: 1, columns: [{ integers: [1n] }] })).rows, [{ pid: 1 }]);
  assert.deepEqual(decoder.bytes(encode({ rows: 1, columns: [{ integers: [2n] }] })).rows, [{ pid: 2 }]);
  assert.equal(decoder.bytes(encode({ summary: { rows: 2n } })).summary?.rows, 2n);
  assert.deepEqual(
    decoder.header?.map(({ name }) => name),
    ["pid"],
  );
  assert.throws(() => decoder.bytes(encode({ header })), /a second header/);
});

test("numbers that are not packed are understood too", () => {
  const column = new BinaryWriter().tag(1, WireType.Varint).sint64(-5).tag(1, WireType.Varint).sint64(6).finish();
  const header = encode({ header: [{ name: "a", type: ColumnType.INTEGER }], rows: 2 });
  const bytes = new BinaryWriter().raw(header).tag(3, WireType.LengthDelimited).bytes(column).finish();
  assert.deepEqual(createRowDecoder().bytes(bytes).rows, [{ a: -5 }, { a: 6 }]);
});

test("an answer that contradicts itself is refused with a reason", () => {
  const header = [{ name: "a", type: ColumnType.INTEGER }];
  const cases: [Init, RegExp][] = [
    [{ header, rows: 3, columns: [{ integers: [1n] }] }, /does not hold 3 rows/],
    [{ header, rows: 1, columns: [{ integers: [1n, 2n] }] }, /does not hold 1 rows/],
    [{ header, rows: 0xffffffff, columns: [{}] }, /does not hold 4294967295 rows/],
    [{ header, rows: 1, columns: [{ integers: [1n], states: new Uint8Array(2) }] }, /does not hold 1 rows/],
    [{ header, rows: 1, columns: [{ texts: [new Uint8Array(1)] }] }, /does not hold 1 rows/],
    [{ header, rows: 1, columns: [] }, /do not match the header/],
    [{ header, rows: 1, columns: [{ integers: [1n] }, {}] }, /do not match the header/],
    [{ rows: 0xffffffff }, /rows without columns/],
    [{ header: [{ name: "__proto__", type: 1 }] }, /name is not one/],
    [{ header: [...header, ...header] }, /the same name/],
    [
      { header: [{ name: "a", type: 0 }], rows: 1, columns: [{ integers: [1n] }] },
      /type that this version does not know/,
    ],
  ];
  for (const [init, reason] of cases) assert.throws(() => decode(init), reason);
  for (const [init, reason] of cases) {
    const message = fromBinary(ReadTableResponseSchema, encode(init));
    assert.throws(() => createRowDecoder().message(message), reason);
  }
});

test("property: mutated answers are decoded or refused as DataLoss, nothing else", () => {
  const bytes = encode({
    header: [
      { name: "a", type: ColumnType.INTEGER },
      { name: "b", type: ColumnType.TEXT },
      { name: "c", type: ColumnType.REAL },
    ],
    rows: 3,
    columns: [
      { integers: [1n, -(1n << 40n), 1n << 62n], states: Uint8Array.of(0, 1, 2) },
      { texts: [Buffer.from("one"), Buffer.from("zwölf"), Buffer.from([0xff])] },
      { reals: [1, 2, 3] },
    ],
    summary: { rows: 3n, notes: ["n"] },
  });
  const change = fc.record({ at: fc.nat(bytes.length - 1), to: fc.integer({ min: 0, max: 255 }) });
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 6 }), fc.nat(bytes.length), (changes, cut) => {
      const mutated = bytes.slice(0, Math.max(1, cut));
      for (const { at, to } of changes) mutated[at % mutated.length] = to;
      try {
        const { rows } = createRowDecoder().bytes(mutated);
        assert.ok(rows.length <= mutated.length);
      } catch (error) {
        assert.ok(error instanceof ConnectError && error.code === Code.DataLoss, String(error));
      }
    }),
    { numRuns: 2000 },
  );
});
