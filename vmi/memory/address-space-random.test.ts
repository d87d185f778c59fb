import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { fiveLevel, fourLevel } from "../arch/x86-64.ts";
import { hiOf, loOf, PAGE_SIZE } from "../bytes/address.ts";
import { naiveWalk, PageTableWriter } from "../testing/page-table-writer.ts";
import { Ram } from "../testing/ram.ts";
import { AddressSpace } from "./address-space.ts";

const PAGES = 16;
const SPANS = [
  [0, 8 * PAGE_SIZE],
  [12 * PAGE_SIZE, 8 * PAGE_SIZE],
] as const;

/** Entries that mostly lead on to another of the few pages, so that walks get deep. */
const entry = fc.oneof(
  { weight: 6, arbitrary: fc.tuple(fc.integer({ min: 0, max: 22 }), fc.integer({ min: 0, max: 511 })) },
  { weight: 1, arbitrary: fc.constant(undefined) },
);
const flagSets = fc.array(
  fc.record({
    frame: entry,
    present: fc.boolean(),
    high: fc.integer({ min: 0, max: 7 }),
    noise: fc.bigInt(0n, (1n << 64n) - 1n),
  }),
  { minLength: PAGES * 4, maxLength: PAGES * 4 },
);
const indexes = fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 5, maxLength: 5 });

/** Few of the 512 entries of a table are filled; these. */
const FILLED = [0n, 1n, 256n, 511n];

test("random page tables: the engine's walks agree with the manual's", () => {
  let mapped = 0;
  fc.assert(
    fc.property(
      flagSets,
      fc.array(fc.record({ indexes, offset: fc.bigInt(0n, (1n << 30n) - 1n), bad: fc.integer({ min: 0, max: 15 }) }), {
        minLength: 20,
        maxLength: 20,
      }),
      fc.constantFrom(fourLevel, fiveLevel),
      fc.constantFrom(0n, 1n << 47n, 1n << 51n),
      (entries, probes, mmu, smeMask) => {
        const ram = new Ram(SPANS);
        const tables = new PageTableWriter(ram, mmu, { pgd: 0, smeMask });
        entries.forEach(({ frame, high, noise, present }, i) => {
          const page = Math.floor(i / FILLED.length);
          const at = (page < 8 ? page : page + 4) * PAGE_SIZE + Number(FILLED[i % FILLED.length]!) * 8;
          if (frame === undefined) ram.setU64(at, noise);
          else {
            const [gfn, flags] = frame;
            // Present mostly, large rarely: otherwise few walks reach the last level.
            const low = BigInt(flags & (high > 1 ? ~0x80 : ~0)) | (present || high > 2 ? 1n : 0n);
            ram.setU64(at, BigInt(gfn * PAGE_SIZE) | low | (high === 3 ? smeMask : 0n) | (high === 4 ? 1n << 63n : 0n));
          }
        });
        const spaces = [ram.mapped(), ram.paged()].map((memory) => new AddressSpace(memory, mmu, 0, smeMask));
        for (const probe of probes) {
          let bits = 0n;
          mmu.shifts.forEach((shift, i) => {
            bits |= FILLED[probe.indexes[i]!]! << BigInt(shift);
          });
          bits |= probe.offset & 0xfffn;
          const va = BigInt.asUintN(64, probe.bad === 0 ? bits : BigInt.asIntN(mmu.virtualBits, bits));
          const expected = naiveWalk(tables, va);
          const gpa = expected && Number(expected.gpa);
          const inRam = gpa !== undefined && SPANS.some(([start, length]) => gpa >= start && gpa < start + length);
          if (inRam) mapped++;
          for (const space of spaces) {
            const found = space.translate(hiOf(va), loOf(va));
            if (expected === undefined || expected.protNone) assert.equal(found, undefined);
            else {
              const { writable, user, executable, shift } = expected;
              assert.deepEqual(found, { gpa, pageSize: 2 ** shift, writable, user, executable });
            }
            // Twice: by the tables and by the TLB.
            for (let i = 0; i < 2; i++) {
              const index = space.resolve(hiOf(va), loOf(va));
              if (!inRam) assert.equal(index, -1);
              else if (space.memory.direct) assert.equal(index, gpa);
              else {
                const page = gpa - (gpa % PAGE_SIZE);
                const start = index - (gpa % PAGE_SIZE);
                const got = space.memory.bytes.subarray(start, start + PAGE_SIZE);
                assert.ok(Buffer.from(got).equals(ram.bytes.subarray(page, page + PAGE_SIZE)));
              }
            }
          }
        }
      },
    ),
    { numRuns: 150, endOnFailure: true },
  );
  assert.ok(mapped > 100, `only ${mapped} of the random addresses were mapped`);
});
