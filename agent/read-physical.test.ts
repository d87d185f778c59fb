import assert from "node:assert/strict";
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { ReadMemoryRequestSchema } from "../proto/gen/cloudvmi/v1/guest_pb.ts";
import type { GuestMemoryLayout } from "../vmi/index.ts";
import { isPhysicalAlone, readPhysical } from "./read-physical.ts";

const PAGE = 4096;
const folder = mkdtempSync(join(tmpdir(), "cloudvmi-physical-"));
const bytes = Buffer.from(Array.from({ length: 4 * PAGE }, (_, i) => (i * 7) % 251));
let fd: number;
let layout: GuestMemoryLayout;
before(() => {
  writeFileSync(join(folder, "ram"), bytes);
  fd = openSync(join(folder, "ram"), "r");
  // Two ranges that touch, in another order in the file, a hole, and one that the file no longer has the end of.
  layout = {
    ranges: [
      { gpa: 0, length: PAGE, backing: 0, offset: 2 * PAGE },
      { gpa: PAGE, length: PAGE, backing: 0, offset: 0 },
      { gpa: 8 * PAGE, length: 2 * PAGE, backing: 0, offset: 3 * PAGE },
    ],
    backings: [{ kind: "file", fd }],
  };
});
after(() => {
  closeSync(fd);
  rmSync(folder, { recursive: true });
});

const physical = { space: { case: "physical" as const, value: true } };
const itemsOf = (...reads: [address: number, length: number][]) =>
  create(ReadMemoryRequestSchema, {
    items: reads.map(([address, length]) => ({ space: physical, address: BigInt(address), length })),
  }).items;

test("bytes come from each range's place, up to the first that is not there", async () => {
  const reads: [number, number][] = [
    [PAGE - 4, 8],
    [2 * PAGE - 4, 8],
    [9 * PAGE - 4, 8],
    [5 * PAGE, 1],
    [0, 0],
  ];
  const results = await readPhysical(layout, itemsOf(...reads));
  const cut = (from: number, to: number) => bytes.subarray(from, to);
  assert.deepEqual(
    results.map(({ data, error }) => [Buffer.from(data!), error]),
    [
      [Buffer.concat([cut(3 * PAGE - 4, 3 * PAGE), cut(0, 4)]), ""],
      [cut(PAGE - 4, PAGE), "0x2000 is not mapped to memory"],
      [cut(4 * PAGE - 4, 4 * PAGE), "0x9000 is not mapped to memory"],
      [Buffer.alloc(0), "0x5000 is not mapped to memory"],
      [Buffer.alloc(0), ""],
    ],
  );
});

test("only what needs no kernel is answered without one, within the limits of a batch", async () => {
  const [item] = itemsOf([0, 8]);
  assert.ok(isPhysicalAlone([item!]));
  const kernel = create(ReadMemoryRequestSchema, {
    items: [{ space: { space: { case: "kernel", value: true } } }],
  }).items;
  const chased = create(ReadMemoryRequestSchema, { items: [{ space: physical, after: { item: 0, offset: 0 } }] }).items;
  for (const items of [[], kernel, chased, [item!, ...kernel]]) assert.ok(!isPhysicalAlone(items));
  await assert.rejects(
    readPhysical(layout, itemsOf([0, (1 << 20) + 1])),
    (error) => error instanceof ConnectError && error.code === Code.InvalidArgument,
  );
});
