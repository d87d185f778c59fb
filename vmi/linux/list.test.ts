import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Budget } from "../budget.ts";
import { gvaOf } from "../bytes/address.ts";
import { attach } from "../guest.ts";
import { PagedMemory } from "../memory/paged-memory.ts";
import { miniGuest } from "../testing/mini-guest.ts";
import { type Addresses, walkList } from "./list.ts";
import { halvesOf } from "./mm.ts";

const { kernel: mini } = miniGuest();
const mapped = attach(mini.ram.mapped()).kernel;
const paged = attach(mini.ram.paged()).kernel;
const MEMBER = 40;

/** A list of so many elements; the addresses of the elements and of the head. */
function listOf(count: number): { head: bigint; elements: bigint[] } {
  const head = mini.allocate(16);
  mini.emptyList(head);
  const elements = Array.from({ length: count }, () => mini.allocate(MEMBER + 16));
  for (const element of elements) mini.listAdd(head, element + BigInt(MEMBER));
  return { head, elements };
}

const addresses = ({ hi, lo }: Addresses) => hi.map((value, i) => gvaOf(value, lo[i]!));

function walk(head: bigint, maximum = 1000, budget = new Budget()): Addresses[] {
  return [mapped, paged].map((kernel) => {
    kernel.dropCaches();
    return walkList(kernel, halvesOf(head), MEMBER, maximum, budget);
  });
}

const next = (element: bigint) => element + BigInt(MEMBER);
const prev = (element: bigint) => element + BigInt(MEMBER) + 8n;

test("a list is walked in its order, whole, once", () => {
  fc.assert(
    fc.property(fc.nat(300), (count) => {
      const { head, elements } = listOf(count);
      for (const found of walk(head)) {
        assert.deepEqual(addresses(found), elements);
        assert.deepEqual([found.count, found.complete, found.retried], [count, true, 0]);
      }
    }),
    { numRuns: 15 },
  );
});

test("more elements than may be are not followed", () => {
  const { head, elements } = listOf(10);
  for (const found of walk(head, 9)) {
    assert.equal(found.complete, false);
    assert.deepEqual(addresses(found), elements.slice(0, 9));
  }
  for (const found of walk(head, 10)) assert.equal(found.complete, true);
});

const KERNEL_HOLE = 0xffff_c900_0000_0000n;
const broken: Record<string, (elements: readonly bigint[], head: bigint) => [at: bigint, value: bigint]> = {
  "the way back is another": (elements) => [prev(elements[3]!), next(elements[0]!)],
  null: (elements) => [next(elements[2]!), 0n],
  "not mapped": (elements) => [next(elements[2]!), KERNEL_HOLE],
  "not canonical": (elements) => [next(elements[2]!), 1n << 63n],
  poison: (elements) => [next(elements[2]!), 0xdead_0000_0000_0100n],
  "rho-shaped: back to an earlier element": (elements) => [next(elements[2]!), next(elements[1]!)],
  "to itself": (elements) => [next(elements[2]!), next(elements[2]!)],
  "to the head too soon": (elements, head) => [next(elements[2]!), head],
};

for (const [what, change] of Object.entries(broken)) {
  test(`a broken list keeps what was before the break, says so and has an end: ${what}`, () => {
    const { head, elements } = listOf(6);
    const [at, value] = change(elements, head);
    mini.writeInteger(at, value, 8);
    for (const found of walk(head)) {
      assert.equal(found.complete, false);
      assert.equal(found.retried, 5);
      assert.deepEqual(addresses(found), elements.slice(0, 3));
    }
  });
}

const halfway: Record<string, (elements: readonly bigint[], head: bigint) => [at: bigint, value: bigint]> = {
  "an element in the middle is being taken out": (elements) => [prev(elements[3]!), next(elements[1]!)],
  "the first is being taken out, or put in": (elements, head) => [prev(elements[1]!), head],
  "the last is being taken out, or put in": (elements, head) => [head + 8n, next(elements[4]!)],
};

for (const [what, change] of Object.entries(halfway)) {
  test(`a list caught in the middle of a change is whole: ${what}`, () => {
    const { head, elements } = listOf(6);
    const [at, value] = change(elements, head);
    mini.writeInteger(at, value, 8);
    for (const found of walk(head)) {
      assert.deepEqual([found.complete, found.retried], [true, 0]);
      assert.deepEqual(addresses(found), elements);
    }
  });
}

test("an element that is half removed is still on the list: the way back passes it, the way on does not yet", () => {
  for (const removed of [1, 2, 5]) {
    const { head, elements } = listOf(6);
    const following = removed === 5 ? head : next(elements[removed + 1]!);
    mini.writeInteger(following + 8n, next(elements[removed - 1]!), 8);
    for (const found of walk(head)) {
      assert.deepEqual(addresses(found), elements);
      assert.deepEqual([found.complete, found.retried], [true, 0]);
    }
  }
});

test("a head that can't be read, or was never linked, gives nothing", () => {
  for (const head of [KERNEL_HOLE, 0n, mini.allocate(16)]) {
    for (const found of walk(head)) assert.deepEqual([found.count, found.complete], [0, false]);
  }
});

test("a list that heals while it is walked is whole", () => {
  const { head, elements } = listOf(5);
  let drops = 0;
  class Healing extends PagedMemory {
    override dropCaches(): void {
      super.dropCaches();
      if (++drops === 2) mini.writeInteger(prev(elements[3]!), next(elements[2]!), 8);
    }
  }
  const kernel = attach(new Healing(mini.ram.layout, mini.ram.reader())).kernel;
  drops = 0;
  mini.writeInteger(prev(elements[3]!), 0n, 8);
  const found = walkList(kernel, halvesOf(head), MEMBER, 1000, new Budget());
  assert.deepEqual(addresses(found), elements);
  assert.deepEqual([found.complete, found.retried], [true, 2]);
});

test("an element across two pages is followed", () => {
  const head = mini.allocate(16);
  mini.emptyList(head);
  const place = mini.allocate(3 * 4096);
  const border = (place | 0xfffn) + 1n;
  for (const element of [border - BigInt(MEMBER) - 8n, border + 4096n - BigInt(MEMBER) - 12n]) {
    mini.listAdd(head, next(element));
  }
  for (const found of walk(head)) assert.deepEqual([found.count, found.complete], [2, true]);
});

test("a walk spends from the budget: a list without an end ends there, and so do lists that break at once", () => {
  const { head } = listOf(9000);
  const spent = { name: "GuestError", kind: "over-budget" };
  assert.throws(() => walk(head, 1 << 20, new Budget(60_000, 5000)), spent);
  const late = { name: "GuestError", kind: "deadline" };
  assert.throws(() => walk(head, 1 << 20, new Budget(-1)), late);
  const budget = new Budget(60_000, 20_000);
  assert.throws(() => {
    for (let i = 0; i < 1000; i++) walk(KERNEL_HOLE, 1000, budget);
  }, spent);
});
