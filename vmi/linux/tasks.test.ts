import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Budget } from "../budget.ts";
import { gvaOf } from "../bytes/address.ts";
import { attach } from "../guest.ts";
import { miniGuest } from "../testing/mini-guest.ts";
import { findProcess, stateLetter, withoutRepeats } from "./tasks.ts";

/** fs/proc/array.c: task_state_array. */
const ARRAY: readonly (readonly [letter: string, value: number])[] = [
  ["R", 0x00],
  ["S", 0x01],
  ["D", 0x02],
  ["T", 0x04],
  ["t", 0x08],
  ["X", 0x10],
  ["Z", 0x20],
  ["P", 0x40],
  ["I", 0x80],
];
const [UNINTERRUPTIBLE, NOLOAD, RTLOCK_WAIT, FROZEN, REPORT] = [0x2, 0x400, 0x1000, 0x8000, 0x7f];

const letter = (state: number, exitState = 0) => String.fromCharCode(stateLetter(state, exitState));

/** include/linux/sched.h: __task_state_index(), as it is written there. */
function expected(state: number, exitState: number): string {
  let index = (state | exitState) & REPORT;
  if ((state & (UNINTERRUPTIBLE | NOLOAD)) === (UNINTERRUPTIBLE | NOLOAD)) index = REPORT + 1;
  if (state & RTLOCK_WAIT || state & FROZEN) index = UNINTERRUPTIBLE;
  const fls = index.toString(2).length - (index === 0 ? 1 : 0);
  return ARRAY[fls]![0];
}

test("every state alone has the letter of task_state_array", () => {
  for (const [name, value] of ARRAY.slice(0, 5)) assert.equal(letter(value), name);
  for (const [name, value] of ARRAY.slice(5, 7))
    assert.equal(letter(0x80, value), name, "an exiting task is TASK_DEAD");
  assert.equal(letter(0x40), "P");
  assert.equal(letter(0x402), "I");
});

test("states that real tasks are in", () => {
  assert.equal(letter(0x2001), "S", "TASK_INTERRUPTIBLE | TASK_FREEZABLE");
  assert.equal(letter(0x102), "D", "TASK_KILLABLE");
  assert.equal(letter(0x104), "T", "TASK_STOPPED");
  assert.equal(letter(0x108), "t", "TASK_TRACED before 5.20");
  assert.equal(letter(0x8000), "D", "TASK_FROZEN");
  assert.equal(letter(0x1000), "D", "TASK_RTLOCK_WAIT");
  assert.equal(letter(0x200), "R", "TASK_WAKING");
  assert.equal(letter(0x800), "R", "TASK_NEW");
  assert.equal(letter(0x80, 0x20), "Z");
  assert.equal(letter(0x80, 0x30), "Z");
});

test("all states: as __task_state_index() says", () => {
  fc.assert(
    fc.property(fc.integer(), fc.constantFrom(0, 0x10, 0x20, 0x30), (state, exitState) => {
      assert.equal(letter(state, exitState), expected(state, exitState));
    }),
    { numRuns: 2000 },
  );
  for (let state = 0; state < 0x2000; state++) assert.equal(letter(state, 0), expected(state, 0));
});

test("a process is found by its id, a thread that leads no process is not", () => {
  const { kernel: mini, shell } = miniGuest();
  const { kernel } = attach(mini.ram.mapped());
  const found = findProcess(kernel, 300, new Budget())!;
  assert.equal(gvaOf(found.hi, found.lo), shell.task.va);
  for (const pid of [0, 301, 4, -1]) assert.equal(findProcess(kernel, pid, new Budget()), undefined);
});

test("a task that was met twice on the list is there once, in the place where it was met first", () => {
  const list = { hi: [-1, -2, -1, -1], lo: [8, 8, 8, 16], count: 4, retried: 1, complete: true };
  assert.deepEqual(withoutRepeats(list), { hi: [-1, -2, -1], lo: [8, 8, 16], count: 3, retried: 1, complete: true });
});
