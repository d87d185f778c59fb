import assert from "node:assert/strict";
import { test } from "node:test";
import { attach } from "../guest.ts";
import { PagedMemory } from "../memory/paged-memory.ts";
import { miniGuest } from "../testing/mini-guest.ts";
import { MiniKernel } from "../testing/mini-kernel.ts";
import { addProcess } from "../testing/mini-objects.ts";
import { clockOf } from "./timekeeping.ts";

for (const flavour of ["6.1", "6.13"] as const) {
  test(`${flavour}: time, boot time and uptime`, () => {
    const { kernel } = attach(miniGuest({ flavour, clock: 1_700_000_000 }).kernel.ram.mapped());
    const { source: _, ...clock } = clockOf(kernel)!;
    assert.deepEqual(clock, {
      monotonicNanoseconds: 1000e9 + 5e8,
      realSeconds: 1_700_000_000,
      bootNanoseconds: 1_699_999_000e9,
      uptimeNanoseconds: 1000e9 + 5e8,
    });
  });
}

test("a clock that is being set is waited for, in memory that is copied too", () => {
  const { kernel: mini } = miniGuest();
  const sequence = mini.gpa(mini.symbol("tk_core"));
  let drops = 0;
  class Ticking extends PagedMemory {
    override dropCaches(): void {
      super.dropCaches();
      if (++drops === 3) mini.ram.view.setUint32(sequence, 8, true);
    }
  }
  const { kernel } = attach(new Ticking(mini.ram.layout, mini.ram.reader()));
  kernel.dropCaches();
  drops = 0;
  mini.ram.view.setUint32(sequence, 7, true);
  assert.equal(clockOf(kernel)?.realSeconds, 1_700_000_000);
  assert.equal(drops, 3);
});

test("a clock that is never left alone is told as it stands", () => {
  const { kernel: mini } = miniGuest();
  const { kernel } = attach(mini.ram.mapped());
  mini.ram.view.setUint32(mini.gpa(mini.symbol("tk_core")), 7, true);
  assert.equal(clockOf(kernel)?.realSeconds, 1_700_000_000);
});

test("the clock of 6.17 is the first of several; a kernel without any is attached to all the same", () => {
  for (const [name, seconds] of [
    ["timekeeper_data", 1_700_000_000],
    ["another_name", undefined],
  ] as const) {
    const mini = new MiniKernel();
    const at = mini.symbols.findIndex((symbol) => symbol.name === "tk_core");
    mini.symbols[at] = { ...mini.symbols[at]!, name };
    addProcess(mini, { pid: 1, comm: "init" });
    const { kernel } = attach(mini.finish().ram.mapped());
    assert.equal(clockOf(kernel)?.realSeconds, seconds);
  }
});
