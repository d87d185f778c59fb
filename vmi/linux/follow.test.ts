import assert from "node:assert/strict";
import { test } from "node:test";
import { Budget } from "../budget.ts";
import { gvaOf } from "../bytes/address.ts";
import { attach } from "../guest.ts";
import { miniGuest } from "../testing/mini-guest.ts";
import { follow } from "./follow.ts";
import { halvesOf } from "./mm.ts";

const MEMBER = 24;
const { kernel: mini } = miniGuest();
const kernels = [attach(mini.ram.mapped()).kernel, attach(mini.ram.paged()).kernel];
const task = mini.allocate(64);
const point = (value: bigint) => mini.writeInteger(task + BigInt(MEMBER), value, 8);

for (const kernel of kernels) {
  const where = kernel.memory.direct ? "mapped" : "copied";
  const through = (read: (at: bigint) => void) =>
    follow(kernel, halvesOf(task), MEMBER, new Budget(), ({ hi, lo }) => {
      read(gvaOf(hi, lo));
      return gvaOf(hi, lo);
    });

  test(`${where}: a pointer that stays is followed once`, () => {
    point(0x1000n);
    let reads = 0;
    assert.deepEqual(
      through(() => reads++),
      { value: 0x1000n },
    );
    assert.equal(reads, 1);
  });

  test(`${where}: what was read through a pointer that changed meanwhile does not count`, () => {
    point(0x1000n);
    assert.deepEqual(
      through(() => point(0x2000n)),
      { value: 0x2000n },
    );
    point(0x1000n);
    assert.equal(
      through(() => point(0n)),
      "null",
    );
    point(0x1000n);
    assert.equal(
      through((at) => point(at + 1n)),
      "torn",
    );
  });

  test(`${where}: a task that can't be read`, () => {
    assert.equal(
      follow(kernel, halvesOf(0xffff_c900_0000_0000n), MEMBER, new Budget(), () => 0),
      "unreadable",
    );
  });
}
