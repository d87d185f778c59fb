import assert from "node:assert/strict";
import { test } from "node:test";
import { fiveLevel, fourLevel } from "../arch/x86-64.ts";
import { Budget } from "../budget.ts";
import { gvaOf } from "../bytes/address.ts";
import { attach } from "../guest.ts";
import { halvesOf } from "../linux/mm.ts";
import { initTask } from "../linux/task-struct.ts";
import { miniGuest } from "../testing/mini-guest.ts";
import { pageAddress, pageNumber, walkMappings } from "./mappings.ts";

const KERNEL = pageNumber(halvesOf(1n << 63n));
const END = 2 ** 52;

test("a page's number and its address", () => {
  for (const address of [
    0n,
    0x7fff_ffff_f000n,
    0xff11_0000_0000_0000n,
    0xffff_ffff_c012_3000n,
    0xffff_ffff_ffff_f000n,
  ]) {
    const { hi, lo } = pageAddress(pageNumber(halvesOf(address)));
    assert.equal(gvaOf(hi, lo), address);
  }
});

for (const mmu of [fourLevel, fiveLevel]) {
  const { kernel: mini } = miniGuest({ mmu });
  for (const memory of [mini.ram.mapped(), mini.ram.paged()]) {
    test(`all that a ${mmu.name} kernel maps, as each address alone is translated, ${memory.direct ? "mapped" : "copied"}`, () => {
      const { kernel } = attach(memory);
      const { space } = kernel;
      const found: number[] = [];
      let end = 0;
      const task = pageNumber(kernel.place(initTask));
      let image = false;
      walkMappings(space, KERNEL, END, new Budget(), (page, pages, gpa, writable, executable) => {
        assert.ok(page >= end, "pages do not ascend");
        end = page + pages;
        for (const part of [0, pages - 1]) {
          const { hi, lo } = pageAddress(page + part);
          const expected = { gpa: gpa + part * 4096, pageSize: pages * 4096, writable, executable };
          const { user: _, ...translated } = space.translate(hi, lo)!;
          assert.deepEqual(translated, expected);
        }
        found.push(page);
        image ||= task >= page && task < end;
      });
      assert.ok(image && found.length > 1, `${found.length} mappings`);
      const half: number[] = [];
      const middle = found[found.length >> 1]!;
      walkMappings(space, middle, END, new Budget(), (page) => half.push(page));
      assert.deepEqual(half, found.slice(found.indexOf(middle)));
    });
  }
}
