import assert from "node:assert/strict";
import { test } from "node:test";
import { Trail } from "../memory/trail.ts";
import { Ram } from "../testing/ram.ts";
import { Memo } from "./memo.ts";

/** Words of memory, by their address, and the trail of who follows them. */
function words() {
  const memory = new Ram([[0, 4096]]).mapped();
  const trail = new Trail({ memory, current: (_, lo) => lo });
  const follow = (at: number) => {
    const value = memory.view.getInt32(at, true);
    trail.pointer(0, at, memory.view.getInt32(at + 4, true), value);
    return value;
  };
  const set = (at: number, value: number) => memory.view.setInt32(at, value, true);
  /** Whether what was followed is still the same at the end of a unit. */
  const unit = (work: () => void) => {
    const from = trail.begin();
    work();
    const held = trail.holds(from);
    trail.end(from);
    return held;
  };
  return { memory, trail, follow, set, unit };
}

const at = (lo: number) => ({ hi: 0, lo });

test("what a unit takes twice is written down once, and checked at its end", () => {
  const { trail, follow, set, unit } = words();
  const memo = new Memo<number>({ trail });
  const take = () => memo.of(at(64), () => follow(64));
  assert.ok(unit(take));
  const positions: number[] = [];
  assert.ok(
    unit(() => {
      for (let i = 0; i < 3; i++) {
        take();
        positions.push(trail.position);
      }
    }),
  );
  assert.equal(new Set(positions).size, 1);
  assert.notEqual(positions[0], 0);
  assert.equal(
    unit(() => {
      take();
      take();
      set(64, 1);
    }),
    false,
  );
});

test("what was read in a copy is looked at where it lies", () => {
  const { memory, trail, set, unit } = words();
  const read = () => trail.pointer(0, 64, 0, 0, memory.scratch + 8);
  assert.ok(unit(read));
  memory.view.setInt32(memory.scratch + 8, 1, true);
  assert.ok(unit(read));
  assert.equal(
    unit(() => {
      read();
      set(64, 1);
    }),
    false,
  );
});

test("what a unit within gave up is written down again", () => {
  const { trail, follow, set, unit } = words();
  const memo = new Memo<number>({ trail });
  const take = () => memo.of(at(64), () => follow(64));
  assert.ok(unit(take));
  assert.equal(
    unit(() => {
      unit(take);
      take();
      set(64, 1);
    }),
    false,
  );
});

test("what one thing is kept by has all that led to it, also what was taken from elsewhere before", () => {
  const { trail, follow, set, unit } = words();
  const [inner, outer] = [new Memo<number>({ trail }), new Memo<number>({ trail })];
  const takeInner = () => inner.of(at(64), () => follow(64));
  const takeOuter = (lo: number) => outer.of(at(lo), () => follow(lo) + takeInner());
  assert.ok(
    unit(() => {
      takeOuter(128);
      takeOuter(192);
    }),
  );
  for (const lo of [128, 192]) {
    assert.equal(
      unit(() => {
        takeOuter(lo);
        set(64, lo);
      }),
      false,
      `${lo}`,
    );
  }
});

test("what there was no room for is not taken as written down", () => {
  const { trail, follow, set, unit } = words();
  const memo = new Memo<number>({ trail });
  const take = () => memo.of(at(64), () => follow(64));
  const fill = () => {
    const { drops } = trail;
    while (trail.drops === drops) follow(128);
  };
  assert.ok(unit(take));
  assert.equal(
    unit(() => {
      take();
      fill();
      take();
      set(64, 1);
    }),
    false,
  );
  // What is kept has to have all that led to it.
  let reads = 0;
  const read = () => {
    reads++;
    follow(192);
    fill();
    return 1;
  };
  const takeLong = () => memo.of(at(192), read);
  assert.ok(unit(takeLong));
  assert.ok(unit(takeLong));
  assert.equal(reads, 2);
});
