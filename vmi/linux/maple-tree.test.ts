import assert from "node:assert/strict";
import { test } from "node:test";
import { Budget } from "../budget.ts";
import { gvaOf } from "../bytes/address.ts";
import { attach } from "../guest.ts";
import { miniGuest } from "../testing/mini-guest.ts";
import { walkMapleTree } from "./maple-tree.ts";
import { halvesOf } from "./mm.ts";

const { kernel: mini } = miniGuest();
const kernels = [mini.ram.mapped(), mini.ram.paged()].map((memory) => attach(memory).kernel);
const LEAF_64 = 1n;
const ARANGE_64 = 3n;
const ULONG_MAX = (1n << 64n) - 1n;

/** A node of 256 bytes, aligned so; the pointer to it holds its type, and as a root that it is one. */
function makeNode(type: bigint, pivots: readonly bigint[], slots: readonly bigint[]): bigint {
  const at = (mini.allocate(512) + 255n) & -256n;
  const node = mini.types.of[type === ARANGE_64 ? "maple_arange_64" : "maple_range_64"]!;
  const put = (member: string, values: readonly bigint[]) => {
    const { offset } = node.members.get(member)!;
    values.forEach((value, i) => {
      mini.writeInteger(at + BigInt(offset + i * 8), value, 8);
    });
  };
  put("pivot", pivots);
  put("slot", slots);
  return at | (type << 3n) | 4n;
}

function walk(root: bigint): { entries: bigint[]; whole: boolean }[] {
  const tree = mini.make("maple_tree").set("ma_root", root);
  return kernels.map((kernel) => {
    kernel.dropCaches();
    const entries: bigint[] = [];
    const whole = walkMapleTree(kernel, halvesOf(tree.va), new Budget(), (hi, lo) => entries.push(gvaOf(hi, lo)) > 0);
    return { entries, whole };
  });
}

test("a root that is a leaf ends where a pivot reaches the highest index: what is behind that are remains", () => {
  const root = makeNode(
    LEAF_64,
    [0xfffn, 0x1fffn, ULONG_MAX, 0x2fffn, 0n],
    [0n, 0x1000n, 0n, 0xdead0000n, 0xdead1000n],
  );
  for (const found of walk(root | 2n)) assert.deepEqual(found, { entries: [0x1000n], whole: true });
});

test("a node below ends where it reaches what its parent gave it", () => {
  const first = makeNode(LEAF_64, [0xfffn, 0x1fffn, 0x2fffn], [0x1000n, 0x2000n, 0xdead0000n]);
  const second = makeNode(LEAF_64, [0x2fffn, ULONG_MAX, 0x3fffn], [0x3000n, 0n, 0xdead0000n]);
  const root = makeNode(ARANGE_64, [0x1fffn, ULONG_MAX, 0x4fffn], [first, second, 0xdead0000n]);
  for (const found of walk(root | 2n)) assert.deepEqual(found, { entries: [0x1000n, 0x2000n, 0x3000n], whole: true });
});

test("an empty tree, and one that is a single entry", () => {
  for (const found of walk(0n)) assert.deepEqual(found, { entries: [], whole: true });
  for (const found of walk(0x1000n)) assert.deepEqual(found, { entries: [0x1000n], whole: true });
});
