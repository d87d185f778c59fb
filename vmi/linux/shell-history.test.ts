import assert from "node:assert/strict";
import { test } from "node:test";
import { Budget } from "../budget.ts";
import { attach } from "../guest.ts";
import { miniGuest } from "../testing/mini-guest.ts";
import { halvesOf } from "./mm.ts";
import { ReadlineUsers } from "./readline.ts";
import { entriesOf, shellHistory } from "./shell-history.ts";

const START = 0x5555_0000_1000;

/** A heap of 4 KiB in which things are put at offsets. */
function heap() {
  const bytes = Buffer.alloc(4096);
  return {
    bytes,
    text: (at: number, value: string) => void bytes.write(`${value}\0`, at),
    pointer: (at: number, to: number) => void bytes.writeBigUInt64LE(BigInt(START + to), at),
    entry(at: number, line: number, time: number) {
      this.pointer(at, line);
      this.pointer(at + 8, time);
    },
  };
}

const linesOf = (bytes: Uint8Array) =>
  entriesOf(bytes, START, new Budget()).map(({ time, line, listed }) => [time, Buffer.from(line).toString(), listed]);

test("entries are those that point to a line and a timestamp, oldest first, in the list's order within a second", () => {
  const of = heap();
  of.text(64, "#1700000005");
  of.text(96, "second");
  of.text(128, "#1700000005");
  of.text(160, "first");
  of.text(192, "#1700000001");
  of.text(224, "taken off");
  of.entry(512, 96, 64);
  of.entry(544, 160, 128);
  of.entry(576, 224, 192);
  of.pointer(1024, 544);
  of.pointer(1032, 512);
  assert.deepEqual(linesOf(of.bytes), [
    [1_700_000_001, "taken off", false],
    [1_700_000_005, "first", true],
    [1_700_000_005, "second", true],
  ]);
});

test("what only looks like an entry is none", () => {
  const of = heap();
  of.text(64, "#1700000005");
  of.text(96, "#17000000x5");
  of.text(128, "#1700000000000000");
  of.text(160, "#");
  of.text(192, "line");
  of.text(224, "\u001b[0mcontrol");
  of.entry(512, 192, 96);
  of.entry(544, 192, 128);
  of.entry(576, 192, 160);
  of.entry(608, 224, 64);
  // An empty line, the timestamp itself, a line outside the heap, one that has no end.
  of.entry(640, 3000, 64);
  of.entry(672, 64, 64);
  of.entry(704, 1 << 20, 64);
  of.bytes.fill("x", 4000);
  of.entry(736, 4040, 64);
  // An entry that the heap's end cuts off.
  of.pointer(4080, 192);
  of.pointer(4088, 64);
  assert.deepEqual(linesOf(of.bytes), []);
});

test("long lines are paid for by their length, and once where entries share one", () => {
  const bytes = Buffer.alloc(1 << 17);
  bytes.write("#1700000005\0", 0);
  bytes.fill("x", 64, 50_000);
  const point = (line: (entry: number) => number) => {
    for (let at = 51_200, entry = 0; at < bytes.length; at += 16, entry++) {
      bytes.writeBigUInt64LE(BigInt(START + line(entry)), at);
      bytes.writeBigUInt64LE(BigInt(START), at + 8);
    }
  };
  point(() => 64);
  assert.ok(entriesOf(bytes, START, new Budget(10_000, 20_000)).length > 4000);
  point((entry) => 64 + entry);
  assert.throws(() => entriesOf(bytes, START, new Budget(10_000, 20_000)), /narrow the question/);
});

test("a heap that ends before it begins is none, however far before", () => {
  const { kernel: mini, shell } = miniGuest();
  const { kernel } = attach(mini.ram.mapped());
  const mm = shell.mm!;
  mm.set("start_brk", 0x5555_0000_0000n);
  for (const before of [8n, 1n << 31n, (1n << 62n) + (1n << 32n) - (1n << 30n)]) {
    mm.set("brk", BigInt.asUintN(64, 0x5555_0000_0000n - before));
    kernel.dropCaches();
    const budget = new Budget(60_000, 1000);
    const users = new ReadlineUsers(kernel, budget);
    const found = shellHistory(kernel, halvesOf(mm.va), users, new Map(), budget);
    assert.deepEqual(found, { entries: [], complete: true });
    assert.equal(budget.left, 1000);
  }
});
