import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Budget } from "../budget.ts";
import { gvaOf } from "../bytes/address.ts";
import { attach } from "../guest.ts";
import { miniGuest } from "../testing/mini-guest.ts";
import { halvesOf } from "./mm.ts";
import { walkIdr, walkXarray, xarrayEntry } from "./xarray.ts";

const { kernel: mini } = miniGuest();
const kernels = [mini.ram.mapped(), mini.ram.paged()].map((memory) => attach(memory).kernel);
const node = mini.types.of.xa_node!;
const SLOTS = node.members.get("slots")!.offset;

type Tree = Map<number, Tree | bigint>;

/** An xarray as the kernel lays it out: as few levels as the highest index needs. */
function xarrayOf(entries: ReadonlyMap<number, bigint>): bigint {
  const xa = mini.make("xarray");
  const highest = Math.max(0, ...entries.keys());
  let shift = 0;
  while (highest >= 64 * 2 ** shift) shift += 6;
  const put = (tree: Tree, index: number, level: number, entry: bigint): void => {
    const slot = Math.floor(index / 2 ** level) % 64;
    if (level === 0) {
      tree.set(slot, entry);
      return;
    }
    const below = (tree.get(slot) as Tree | undefined) ?? new Map();
    tree.set(slot, below);
    put(below, index, level - 6, entry);
  };
  const write = (tree: Tree, level: number): bigint => {
    const at = mini.allocate(node.size);
    mini.write(at, Buffer.alloc(node.size));
    mini.writeInteger(at, level, 1);
    for (const [slot, below] of tree)
      mini.writeInteger(
        at + BigInt(SLOTS + slot * 8),
        typeof below === "bigint" ? below : write(below, level - 6) | 2n,
        8,
      );
    return at;
  };
  const tree: Tree = new Map();
  for (const [index, entry] of entries) put(tree, index, shift, entry);
  const single = entries.size === 1 && entries.has(0);
  xa.set("xa_head", entries.size === 0 ? 0n : single ? entries.get(0)! : write(tree, shift) | 2n);
  return xa.at("xa_head") - BigInt(mini.types.of.xarray!.members.get("xa_head")!.offset);
}

const entryOf = (index: number) => 0xffff_8880_0000_1000n + BigInt(index) * 64n;

function walked(xa: bigint, maximum = 10_000) {
  return kernels.map((kernel) => {
    kernel.dropCaches();
    const found: [number, bigint][] = [];
    const complete = walkXarray(kernel, halvesOf(xa), maximum, new Budget(), (index, entry) => {
      found.push([index, gvaOf(entry.hi, entry.lo)]);
      return true;
    });
    return { complete, found };
  });
}

test("an xarray is walked by ascending index, and any entry is found by its index", () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.oneof(fc.nat(70), fc.nat(300_000)), { maxLength: 25 }), (indices) => {
      const entries = new Map(indices.map((index) => [index, entryOf(index)]));
      const xa = xarrayOf(entries);
      const expected = [...entries].toSorted(([a], [b]) => a - b);
      for (const result of walked(xa)) assert.deepEqual(result, { complete: true, found: expected });
      for (const index of [...indices, ...indices.map((at) => at + 1), 0, 10 ** 9]) {
        for (const kernel of kernels) {
          const found = xarrayEntry(kernel, halvesOf(xa), index);
          assert.equal(found && gvaOf(found.hi, found.lo), entries.get(index), String(index));
        }
      }
    }),
    { numRuns: 40 },
  );
});

test("siblings stand for the first slot of their entry, and are not visited", () => {
  const xa = xarrayOf(
    new Map([
      [4, entryOf(4)],
      [70, entryOf(70)],
    ]),
  );
  const top = mini.readPointer(xa + 8n) & ~3n;
  const leaf = mini.readPointer(top + BigInt(SLOTS)) & ~3n;
  for (const slot of [5, 6, 7]) mini.writeInteger(leaf + BigInt(SLOTS + slot * 8), (4n << 2n) | 2n, 8);
  for (const { found } of walked(xa))
    assert.deepEqual(
      found.map(([index]) => index),
      [4, 70],
    );
  for (const kernel of kernels) {
    kernel.dropCaches();
    const counts: number[] = [];
    walkXarray(kernel, halvesOf(xa), 9, new Budget(), (_, __, count) => counts.push(count) > 0);
    assert.deepEqual(counts, [4, 1]);
    const found = xarrayEntry(kernel, halvesOf(xa), 6);
    assert.equal(found && gvaOf(found.hi, found.lo), entryOf(4));
  }
});

test("a node below itself, or of an absurd size, ends the walk", () => {
  const xa = xarrayOf(new Map([[70, entryOf(70)]]));
  const top = mini.readPointer(xa + 8n) & ~3n;
  mini.writeInteger(top + BigInt(SLOTS + 8), top | 2n, 8);
  for (const { complete } of walked(xa)) assert.equal(complete, false);
  mini.writeInteger(top, 200, 1);
  for (const { complete, found } of walked(xa)) assert.deepEqual([complete, found], [false, []]);
  for (const kernel of kernels) assert.equal(xarrayEntry(kernel, halvesOf(xa), 70), undefined);
});

test("more entries than may be are not visited; who has enough stops the walk", () => {
  const xa = xarrayOf(new Map([1, 2, 3].map((index) => [index, entryOf(index)])));
  for (const { complete, found } of walked(xa, 2)) assert.deepEqual([complete, found.length], [false, 2]);
  for (const kernel of kernels) {
    let seen = 0;
    assert.equal(
      walkXarray(kernel, halvesOf(xa), 9, new Budget(), () => ++seen < 2),
      true,
    );
    assert.equal(seen, 2);
  }
});

test("an IDR counts from its base", () => {
  const idr = mini.make("idr");
  const xa = xarrayOf(
    new Map([
      [0, entryOf(0)],
      [9, entryOf(9)],
    ]),
  );
  idr.set("idr_rt.xa_head", mini.readPointer(xa + 8n));
  idr.set("idr_base", 5);
  for (const kernel of kernels) {
    const ids: number[] = [];
    kernel.dropCaches();
    walkIdr(kernel, halvesOf(idr.at("idr_rt")), 9, new Budget(), (id) => ids.push(id) > 0);
    assert.deepEqual(ids, [5, 14]);
  }
});
