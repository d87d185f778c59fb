import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Budget } from "../budget.ts";
import { gvaOf } from "../bytes/address.ts";
import { attach } from "../guest.ts";
import { miniGuest } from "../testing/mini-guest.ts";
import { walkHlist, walkHlistNulls } from "./hlist.ts";
import type { Addresses } from "./list.ts";
import { halvesOf } from "./mm.ts";
import { walkRbTree } from "./rbtree.ts";

const { kernel: mini } = miniGuest();
const kernels = [mini.ram.mapped(), mini.ram.paged()].map((memory) => attach(memory).kernel);
const MEMBER = 24;
const pointer = (at: bigint, value: bigint) => mini.writeInteger(at, value, 8);
const addresses = ({ hi, lo }: Addresses) => hi.map((value, i) => gvaOf(value, lo[i]!));

interface Node {
  readonly at: bigint;
  readonly key: number;
  left?: Node;
  right?: Node;
}

const field = (node: Node, offset: number) => node.at + BigInt(MEMBER + offset);

/** A binary tree of the keys in the order of their coming; returns the address of its rb_root. */
function treeOf(keys: readonly number[]): { root: bigint; nodes: Node[] } {
  const root = mini.allocate(8);
  pointer(root, 0n);
  const nodes: Node[] = [];
  for (const key of keys) {
    const node: Node = { at: mini.allocate(MEMBER + 24), key };
    let parent: Node | undefined;
    for (let at = nodes[0]; at !== undefined; at = key < at.key ? at.left : at.right) parent = at;
    if (parent === undefined) pointer(root, field(node, 0));
    else if (key < parent.key) parent.left = node;
    else parent.right = node;
    if (parent !== undefined) pointer(field(parent, key < parent.key ? 16 : 8), field(node, 0));
    // Odd: black.
    pointer(field(node, 0), parent === undefined ? 1n : field(parent, 0) | BigInt(key & 1));
    pointer(field(node, 8), 0n);
    pointer(field(node, 16), 0n);
    nodes.push(node);
  }
  return { root, nodes };
}

function walkTree(root: bigint, maximum = 1000): Addresses[] {
  return kernels.map((kernel) => {
    kernel.dropCaches();
    return walkRbTree(kernel, halvesOf(root), MEMBER, maximum, new Budget());
  });
}

test("a red-black tree is walked in its order", () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.nat(10_000), { maxLength: 60 }), (keys) => {
      const { root, nodes } = treeOf(keys);
      const expected = nodes.toSorted((a, b) => a.key - b.key).map(({ at }) => at);
      for (const found of walkTree(root)) {
        assert.equal(found.complete, true);
        assert.deepEqual(addresses(found), expected);
      }
    }),
    { numRuns: 20 },
  );
});

test("a tree whose node does not point back at the one above it, or that loops, is not believed", () => {
  for (const [offset, value] of [
    [0, 0x1000n],
    [8, undefined],
    [16, undefined],
  ] as const) {
    const { root, nodes } = treeOf([4, 2, 6, 1, 3]);
    const below = nodes[1]!;
    pointer(field(below, offset), value ?? field(nodes[0]!, 0));
    for (const found of walkTree(root)) {
      assert.equal(found.complete, false);
      assert.equal(found.retried, 3);
    }
  }
});

test("more nodes than may be are not visited", () => {
  const { root } = treeOf([4, 2, 6, 1, 3]);
  for (const found of walkTree(root, 4)) assert.deepEqual([found.count, found.complete], [4, false]);
  for (const found of walkTree(root, 5)) assert.deepEqual([found.count, found.complete], [5, true]);
});

/** A chain of so many elements behind a head, which ends with `end`. */
function chainOf(count: number, end: bigint): { head: bigint; elements: bigint[] } {
  const head = mini.allocate(8);
  const elements = Array.from({ length: count }, () => mini.allocate(MEMBER + 16));
  let before = head;
  for (const element of elements) {
    const node = element + BigInt(MEMBER);
    pointer(before, node);
    pointer(node + 8n, before);
    before = node;
  }
  pointer(before, end);
  return { head, elements };
}

for (const { name, walk, end } of [
  { name: "hlist", walk: walkHlist, end: 0n },
  { name: "hlist_nulls", walk: walkHlistNulls, end: 0x1f3n },
]) {
  test(`${name}: walked to its end, as far as may be, and not where a node does not point back`, () => {
    for (const count of [0, 1, 40]) {
      const { head, elements } = chainOf(count, end);
      for (const kernel of kernels) {
        kernel.dropCaches();
        const found = walk(kernel, halvesOf(head), MEMBER, 40, new Budget());
        assert.deepEqual([addresses(found), found.complete], [elements, true]);
      }
    }
    const { head, elements } = chainOf(5, end);
    for (const kernel of kernels) {
      kernel.dropCaches();
      assert.equal(walk(kernel, halvesOf(head), MEMBER, 4, new Budget()).complete, false);
    }
    pointer(elements[3]! + BigInt(MEMBER) + 8n, head);
    for (const kernel of kernels) {
      kernel.dropCaches();
      const found = walk(kernel, halvesOf(head), MEMBER, 40, new Budget());
      assert.deepEqual([found.count, found.complete, found.retried], [3, false, 3]);
    }
    // A loop: the last leads to the first, which can't point back at both.
    pointer(elements[4]! + BigInt(MEMBER), elements[0]! + BigInt(MEMBER));
    for (const kernel of kernels) {
      kernel.dropCaches();
      assert.equal(walk(kernel, halvesOf(head), MEMBER, 40, new Budget()).complete, false);
    }
  });
}
