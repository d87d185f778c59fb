import assert from "node:assert/strict";
import { test } from "node:test";
import { Budget } from "../budget.ts";
import type { Span } from "../memory/mapped-spans.ts";
import { Ram } from "../testing/ram.ts";
import { OVERLAP, WINDOW, Windows } from "./windows.ts";

const PAGE = 4096;
const ram = new Ram([
  [0, 16 << 20],
  [32 << 20, 1 << 20],
]);
for (let gpa = 0; gpa < ram.bytes.length; gpa += PAGE) ram.view.setUint32(gpa, gpa / PAGE, true);

const span = (address: number, gpa: number, pages = 1): Span => ({
  address: BigInt(address),
  gpa,
  length: pages * PAGE,
});
/** Of each window its address, the numbers of its frames, and which of them are fresh. */
function seen(windows: Windows, spans: readonly Span[]) {
  const found: { address: number; frames: number[]; fresh: string }[] = [];
  for (const { address, bytes, fresh } of windows.of(spans)) {
    const frames = Array.from(fresh, (_, page) => Buffer.from(bytes).readUInt32LE(page * PAGE));
    found.push({ address: Number(address), frames, fresh: [...fresh].join("") });
  }
  return found;
}

test("pages from all over memory lie side by side; a hole ends a window, and so does what is not RAM", () => {
  for (const memory of [ram.mapped(), ram.paged()]) {
    const spans = [span(0, 0x5000), span(PAGE, 0x3000, 2), span(4 * PAGE, 0x9000), span(5 * PAGE, 20 << 20)];
    assert.deepEqual(seen(new Windows(memory, new Budget()), spans), [
      { address: 0, frames: [5, 3, 4], fresh: "111" },
      { address: 4 * PAGE, frames: [9], fresh: "1" },
    ]);
    // The end of a range within a span.
    assert.deepEqual(seen(new Windows(memory, new Budget()), [span(0, (16 << 20) - PAGE, 3)]), [
      { address: 0, frames: [4095], fresh: "1" },
    ]);
  }
});

test("a page is handed out once, and again where it lies beside a new one", () => {
  const windows = new Windows(ram.mapped(), new Budget());
  assert.equal(seen(windows, [span(0, 0, 2)]).length, 1);
  assert.deepEqual(seen(windows, [span(0, 0, 2)]), []);
  assert.deepEqual(seen(windows, [span(0, 0, 2), span(2 * PAGE, 0x8000)]), [
    { address: 0, frames: [0, 1, 8], fresh: "001" },
  ]);
  // Of much that is known only the border.
  seen(windows, [span(0, 1 << 20, 100)]);
  const [window] = seen(windows, [span(0, 1 << 20, 100), span(100 * PAGE, 2 << 20)]);
  assert.equal(window!.fresh, `${"0".repeat(OVERLAP / PAGE)}1`);
  assert.equal(window!.address, 100 * PAGE - OVERLAP);
});

test("a window that its reader refuses has not been handed out", () => {
  const windows = new Windows(ram.mapped(), new Budget());
  for (const _ of windows.of([span(0, 0)])) break;
  assert.equal(seen(windows, [span(0, 0)]).length, 1);
  // One of two: the other is told.
  const other = new Windows(ram.mapped(), new Budget());
  const spans = [span(0, 0), span(2 * PAGE, 0x2000)];
  assert.deepEqual(
    [...other.of(spans, ({ address }) => address > 0n)].map(({ address }) => Number(address)),
    [2 * PAGE],
  );
  assert.deepEqual(seen(other, spans), [{ address: 0, frames: [0], fresh: "1" }]);
});

test("long runs come in windows that overlap; in place where they are one in memory", () => {
  for (const inPlace of [false, true]) {
    const memory = ram.mapped();
    const windows = [...new Windows(memory, new Budget(), inPlace).of([span(0, 0, 3072)])].map(
      ({ address, bytes, fresh }) => ({
        start: Number(address),
        end: Number(address) + bytes.length,
        known: fresh.indexOf(1),
        own: bytes.buffer === memory.bytes.buffer,
      }),
    );
    const step = WINDOW - OVERLAP;
    assert.deepEqual(
      windows.map(({ start, end, own }) => [start, end, own]),
      [0, 1, 2, 3].map((i) => [i * step, Math.min(i * step + WINDOW, 3072 * PAGE), inPlace]),
    );
    assert.deepEqual(
      windows.map(({ known }) => known),
      [0, 16, 16, 16],
    );
  }
});

test("what can't be read is zeros, and nothing that counts", () => {
  const memory = ram.paged((gpa) => Math.floor(gpa / PAGE) === 6);
  const [window] = [
    ...new Windows(memory, new Budget()).of([span(0, 0x5000), span(PAGE, 0x6000), span(2 * PAGE, 0x9000)]),
  ];
  // Neighbours in memory are read together, and given up together.
  assert.deepEqual([...window!.fresh], [0, 0, 1]);
  assert.equal(Buffer.from(window!.bytes).readUInt32LE(2 * PAGE), 9);
});
