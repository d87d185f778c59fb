import assert from "node:assert/strict";
import { test } from "node:test";
import { Budget } from "../budget.ts";
import { attach } from "../guest.ts";
import { consistently } from "../linux/consistent.ts";
import { halvesOf } from "../linux/mm.ts";
import { readNumber, readPointer } from "../linux/read.ts";
import { taskStruct } from "../linux/task-struct.ts";
import { miniGuest } from "../testing/mini-guest.ts";
import { IntegerColumn } from "./columns.ts";
import { type RowFilter, RowWriter } from "./row-writer.ts";

for (const kind of ["mapped", "paged"] as const) {
  const { kernel: mini, shell } = miniGuest();
  const { kernel } = attach(mini.ram[kind]());
  const layout = kernel.layout(taskStruct);
  const task = halvesOf(shell.task.va);
  let value = shell.mm!.va;

  const change = (member: "mm" | "fs") => {
    value += 8n;
    shell.task.set(member, value);
  };
  const pointer = (member: "mm" | "fs") => readPointer(kernel.space, task, layout[member]);

  /** Rows of one column, as `write` makes them: it gets how to end a row with a number. */
  function written(
    write: (rows: RowWriter, row: (number: number) => boolean) => void,
    { limit = Number.POSITIVE_INFINITY, only }: { limit?: number; only?: readonly string[] } = {},
  ) {
    const column = new IntegerColumn();
    const filters: RowFilter[] = only === undefined ? [] : [{ column, values: new Set(only) }];
    kernel.trail.retried = 0;
    kernel.dropCaches();
    const rows = new RowWriter(kernel, new Budget(), [column], filters, limit);
    write(rows, (number) => {
      column.push(number);
      return rows.row();
    });
    const { keep, rows: count } = rows.finish();
    const data = column.finish(keep);
    assert.ok(data.kind === "integer" && data.values.length === count);
    return { values: data.values, retried: kernel.trail.retried, notes: rows.notes };
  }

  const unitOf = (rows: RowWriter, read: () => boolean) => rows.unit(() => "it", read);

  test(`${kind}: a unit that stays the same is read once`, () => {
    const found = written((rows, row) => {
      assert.equal(
        unitOf(rows, () => pointer("mm") !== undefined && row(1) && row(2)),
        true,
      );
    });
    assert.deepEqual(found, { values: [1, 2], retried: 0, notes: [] });
  });

  test(`${kind}: what was read of something that changed meanwhile is taken back, with its notes`, () => {
    let readings = 0;
    const found = written((rows, row) => {
      row(0);
      unitOf(rows, () => {
        pointer("mm");
        readings++;
        row(readings);
        rows.incomplete(`reading ${readings}`);
        if (readings === 1) change("mm");
        return row(readings);
      });
      row(9);
    });
    assert.deepEqual(found, { values: [0, 2, 2, 9], retried: 1, notes: ["reading 2"] });
  });

  test(`${kind}: of what never stays the same, rows that were the same before and after remain`, () => {
    const found = written((rows, row) => {
      unitOf(rows, () => {
        pointer("mm");
        row(1);
        pointer("fs");
        change("fs");
        row(2);
        return row(3);
      });
    });
    assert.deepEqual(found, { values: [1, 3], retried: 3, notes: ["it kept changing while it was read"] });
  });

  test(`${kind}: when what led to the first row never stays the same, there is none`, () => {
    const found = written((rows, row) => {
      unitOf(rows, () => {
        pointer("mm");
        row(1);
        row(2);
        change("mm");
        return true;
      });
      row(9);
    });
    assert.deepEqual([found.values, found.retried], [[9], 3]);
  });

  test(`${kind}: rows that are not wanted, limits, and rows that are left out`, () => {
    let readings = 0;
    const twice = (rows: RowWriter, row: (number: number) => boolean) =>
      unitOf(rows, () => {
        pointer("mm");
        if (++readings % 2 === 1) change("mm");
        return [1, 2, 3].every(row);
      });
    assert.deepEqual(written(twice, { only: ["1", "3"] }).values, [1, 3]);
    assert.deepEqual(written(twice, { limit: 2 }).values, [1, 2]);
    const column = new IntegerColumn();
    const rows = new RowWriter(kernel, new Budget(), [column], [], Number.POSITIVE_INFINITY);
    for (const number of [1, 2, 3, 4]) column.push(number);
    rows.rows(4, (row) => row === 1);
    column.push(5);
    rows.row();
    assert.deepEqual(rows.finish().keep, [0, 2, 3, 4]);
  });

  test(`${kind}: counters may change`, () => {
    const found = written((rows, row) => {
      unitOf(rows, () => {
        readNumber(kernel.space, task, layout.start_boottime);
        shell.task.set("start_boottime", ++value);
        return row(1);
      });
    });
    assert.deepEqual(found, { values: [1], retried: 0, notes: [] });
  });

  test(`${kind}: a unit within one counts for itself, and leaves what it is told to`, () => {
    let readings = 0;
    const read = (until?: () => number) =>
      written((rows, row) => {
        readings = 0;
        unitOf(rows, () => {
          const inner = consistently(kernel, new Budget(), () => pointer("mm"), until);
          assert.ok(inner);
          if (readings++ === 0) change("mm");
          return row(1);
        });
      });
    assert.equal(read().retried, 0, "what is within is done with");
    assert.equal(read(() => kernel.trail.position).retried, 1, "what it followed matters to the rest");
  });

  test(`${kind}: more pointers than are kept: those that were dropped count as they were then`, () => {
    const many = 300_000;
    const found = written((rows, row) => {
      unitOf(rows, () => {
        for (let i = 0; i < many; i++) pointer("mm");
        return row(1);
      });
      let readings = 0;
      unitOf(rows, () => {
        for (let i = 0; i < many; i++) {
          if (i === 1 && readings === 0) change("mm");
          pointer("mm");
        }
        readings++;
        return row(2);
      });
    });
    assert.deepEqual(found, { values: [1, 2], retried: 1, notes: [] });
  });
}
