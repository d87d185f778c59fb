import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type AnyColumn, CELL, type ColumnData, IntegerColumn, TextColumn } from "./columns.ts";

type ModelCell = { readonly value: number | bigint | string; readonly state: number };

function cells(data: ColumnData): ModelCell[] {
  const count = data.kind === "integer" ? data.values.length : data.ends.length;
  return Array.from({ length: count }, (_, row) => {
    const state = data.states?.[row] ?? CELL.present;
    if (data.kind === "integer") return { value: data.wide?.get(row) ?? data.values[row]!, state };
    const start = row === 0 ? 0 : data.ends[row - 1]!;
    return { value: Buffer.from(data.bytes.subarray(start, data.ends[row])).toString("latin1"), state };
  });
}

const state = fc.constantFrom(CELL.notApplicable, CELL.unreadable, CELL.torn, CELL.unsupported);
const step = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant("push" as const),
      value: fc.oneof(
        fc.integer(),
        fc.bigInt({ min: 2n ** 53n, max: 2n ** 63n - 1n }),
        fc.constantFrom(-(2n ** 63n), 2n ** 53n + 1n),
      ),
      text: fc.string({
        unit: fc.integer({ min: 1, max: 255 }).map((code) => String.fromCharCode(code)),
        maxLength: 300,
      }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("absent" as const), state }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("truncate" as const), to: fc.nat(1000) }) },
);

test("columns hold what was written, whatever was taken back, and give the rows to keep", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), fc.infiniteStream(fc.boolean()), (steps, keeps) => {
      const [integers, texts] = [new IntegerColumn(), new TextColumn()];
      const [numbers, strings]: [ModelCell[], ModelCell[]] = [[], []];
      for (const step of steps) {
        if (step.do === "push") {
          integers.pushOr(step.value, CELL.torn);
          texts.pushBytes(Buffer.from(step.text, "latin1"));
          numbers.push({ value: step.value, state: CELL.present });
          strings.push({ value: step.text, state: CELL.present });
        } else if (step.do === "absent") {
          integers.absent(step.state);
          texts.pushOr(undefined, step.state);
          numbers.push({ value: 0, state: step.state });
          strings.push({ value: "", state: step.state });
        } else {
          const rows = Math.min(step.to, numbers.length);
          for (const column of [integers, texts]) column.truncate(rows);
          for (const model of [numbers, strings]) model.length = rows;
        }
      }
      const keep = numbers.map((_, row) => row).filter(() => keeps.next().value);
      for (const [column, model] of [
        [integers, numbers],
        [texts, strings],
      ] as [AnyColumn, ModelCell[]][]) {
        assert.equal(column.length, model.length);
        assert.deepEqual(cells(column.finish()), model);
        assert.deepEqual(
          cells(column.finish(keep)),
          keep.map((row) => model[row]),
        );
      }
    }),
    { numRuns: 100 },
  );
});

test("states are left out where every cell has a value", () => {
  const column = new IntegerColumn();
  column.absent(CELL.torn);
  column.push(1);
  assert.notEqual(column.finish().states, undefined);
  assert.equal(column.finish([1]).states, undefined);
  column.truncate(0);
  column.push(2);
  assert.equal(column.finish().states, undefined);
});

test("text to the first zero, four bytes at a time, is text to the first zero", () => {
  const byte = fc.oneof(fc.constantFrom(0, 1, 0x7f, 0x80, 0x81, 0xff), fc.nat(255));
  fc.assert(
    fc.property(
      fc.array(byte, { minLength: 24, maxLength: 24 }),
      fc.nat(7),
      fc.integer({ min: 1, max: 4 }),
      (bytes, from, words) => {
        const source = Uint8Array.from(bytes);
        const column = new TextColumn();
        column.pushUntilZero(new DataView(source.buffer), from, words);
        column.push("|");
        const span = source.subarray(from, from + words * 4);
        const zero = span.indexOf(0);
        const expected = Buffer.from(zero < 0 ? span : span.subarray(0, zero)).toString("latin1");
        assert.equal(cells(column.finish())[0]!.value, expected);
        assert.equal(cells(column.finish())[1]!.value, "|");
      },
    ),
    { numRuns: 1000 },
  );
});

test("text of the engine's own making is UTF-8", () => {
  const column = new TextColumn();
  for (const text of ["", "plain", "naïve – ✓"]) column.push(text);
  column.pushCode(0x52);
  column.pushAddress(-1, 16);
  const { bytes } = column.finish() as Extract<ColumnData, { kind: "text" }>;
  assert.equal(Buffer.from(bytes).toString(), "plainnaïve – ✓R0xffffffff00000010");
});

test("numbers that are not exact are not given", () => {
  const column = new IntegerColumn();
  for (const value of [2 ** 53, -(2 ** 60), Number.NaN, Number.POSITIVE_INFINITY, 0.5]) {
    column.pushOr(value, CELL.unreadable);
  }
  column.pushOr(2 ** 53 - 1, CELL.unreadable);
  for (const value of [2n ** 63n, -(2n ** 63n) - 1n]) column.pushOr(value, CELL.torn);
  assert.deepEqual([...column.finish().states!], [2, 2, 2, 2, 2, 0, 3, 3]);
});

test("cells compare with values as they are written; absent ones with none", () => {
  const [integers, texts] = [new IntegerColumn(), new TextColumn()];
  for (const value of [0, -5, 4294967295]) integers.push(value);
  integers.absent(CELL.notApplicable);
  assert.deepEqual(
    [0, 1, 2, 3].map((row) => integers.isOneOf(row, new Set(["0", "-5"]))),
    [true, true, false, false],
  );
  integers.pushOr(2n ** 62n + 1n, CELL.unreadable);
  const near = ["4611686018427387904", "4611686018427387905"];
  assert.deepEqual(
    near.map((value) => integers.isOneOf(4, new Set([value]))),
    [false, true],
  );
  for (const text of ["", "a", "ab", "é"]) texts.push(text);
  texts.absent(CELL.unreadable);
  assert.deepEqual(
    [0, 1, 2, 3, 4].map((row) => texts.isOneOf(row, new Set(["", "ab", "é"]))),
    [true, false, true, true, false],
  );
});

test("more text than an inspector's memory holds is refused, not gathered", () => {
  const column = new TextColumn();
  const piece = new Uint8Array(6 << 20);
  assert.throws(
    () => {
      for (let i = 0; i < 100; i++) column.pushBytes(piece);
    },
    { kind: "over-budget" },
  );
  assert.equal(column.length, 10);
});
