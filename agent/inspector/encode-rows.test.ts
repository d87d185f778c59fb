import assert from "node:assert/strict";
import { test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { type ReadTableResponse, ReadTableResponseSchema } from "../../proto/gen/cloudvmi/v1/guest_pb.ts";
import type { ColumnData } from "../../vmi/index.ts";
import { encodeRows } from "./encode-rows.ts";

const header = toBinary(
  ReadTableResponseSchema,
  create(ReadTableResponseSchema, { header: [{ name: "pid" }, { name: "name" }] }),
);
const summary = (rows: number) =>
  toBinary(ReadTableResponseSchema, create(ReadTableResponseSchema, { summary: { rows: BigInt(rows) } }));

function textColumn(texts: readonly Uint8Array[], states?: Uint8Array): ColumnData {
  let end = 0;
  const ends = texts.map((text) => {
    end += text.length;
    return end;
  });
  return { kind: "text", bytes: Buffer.concat(texts), ends, states };
}

function decode(columns: readonly ColumnData[], rows: number): ReadTableResponse[] {
  return [...encodeRows(columns, rows, header, summary(rows))].map((bytes) =>
    fromBinary(ReadTableResponseSchema, bytes),
  );
}

test("what a protobuf library reads is what the columns hold", () => {
  const cell = fc.record({
    integer: fc.oneof(fc.maxSafeInteger(), fc.integer(), fc.constantFrom(0, -1, 63, 64, -64, -65, 2 ** 52, -(2 ** 53))),
    wide: fc.option(
      fc.bigInt({ min: 2n ** 53n, max: 2n ** 63n - 1n }).map((value) => (value % 2n === 0n ? value : -value)),
      { freq: 4, nil: undefined },
    ),
    text: fc.uint8Array({ maxLength: 200 }),
    state: fc.constantFrom(0, 0, 1, 2, 3, 4),
  });
  fc.assert(
    fc.property(fc.array(cell, { maxLength: 300 }), fc.boolean(), fc.boolean(), (cells, withStates, withWide) => {
      const states = withStates ? Uint8Array.from(cells, ({ state }) => state) : undefined;
      const integers = cells.map(({ integer, wide }) => (withWide && wide !== undefined ? Number(wide) : integer));
      const entries = cells.flatMap(({ wide }, row) => (wide === undefined ? [] : [[row, wide] as const]));
      const wide = withWide ? new Map(entries) : undefined;
      const texts = cells.map(({ text }) => text);
      const [answer, ...more] = decode(
        [{ kind: "integer", values: integers, wide, states }, textColumn(texts, states)],
        cells.length,
      );
      assert.equal(more.length, 0);
      assert.deepEqual(
        answer!.header.map(({ name }) => name),
        ["pid", "name"],
      );
      assert.equal(answer!.rows, cells.length);
      assert.equal(answer!.summary!.rows, BigInt(cells.length));
      if (cells.length === 0) return;
      const [first, second] = answer!.columns;
      assert.deepEqual(
        first!.integers,
        integers.map((value, row) => wide?.get(row) ?? BigInt(value)),
      );
      assert.deepEqual(
        second!.texts.map((text) => [...text]),
        texts.map((text) => [...text]),
      );
      assert.deepEqual([...first!.states], [...(states ?? [])]);
      assert.deepEqual([...second!.states], [...(states ?? [])]);
    }),
    { numRuns: 60 },
  );
});

test("a large answer comes in batches of about a mebibyte, header first, summary last", () => {
  const rows = 30_000;
  const values = Array.from({ length: rows }, (_, row) => row);
  const texts = Array.from({ length: rows }, (_, row) => Buffer.alloc(row % 500, row));
  const answers = decode([{ kind: "integer", values, states: undefined }, textColumn(texts)], rows);
  assert.ok(answers.length > 5);
  assert.deepEqual(
    answers.map(({ header }) => header.length > 0),
    answers.map((_, i) => i === 0),
  );
  assert.deepEqual(
    answers.map(({ summary }) => summary !== undefined),
    answers.map((_, i) => i === answers.length - 1),
  );
  for (const answer of answers) assert.ok(toBinary(ReadTableResponseSchema, answer).length <= (1 << 20) + 4096);
  assert.deepEqual(
    answers.flatMap((answer) => answer.columns[0]!.integers.map(Number)),
    [...values],
  );
  const got = Buffer.concat(answers.flatMap((answer) => answer.columns[1]!.texts));
  assert.ok(got.equals(Buffer.concat(texts)));
});

test("a row larger than a batch still goes out", () => {
  const texts = [Buffer.alloc(10), Buffer.alloc(3 << 20, 7), Buffer.alloc(20)];
  const answers = decode([textColumn(texts)], 3);
  assert.deepEqual(
    answers.flatMap((answer) => answer.columns[0]!.texts.map((text) => text.length)),
    [10, 3 << 20, 20],
  );
});
