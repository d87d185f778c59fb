import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { VmSchema } from "../../proto/gen/cloudvmi/v1/vm_pb.ts";
import { admitVms, checkMessage, createPace, maxVms } from "./announcements.ts";

const uuid = (index: number) => `00000000-0000-4000-8000-${String(index).padStart(12, "0")}`;
const vm = (index: number, labels: Record<string, string> = {}) =>
  create(VmSchema, { id: { uuid: uuid(index), incarnation: "1" }, name: `vm${index}`, labels });
const many = (from: number, count: number) => Array.from({ length: count }, (_, index) => vm(from + index));

test("an agent has so many VMs; those that it has may change", () => {
  const all = admitVms(many(0, maxVms), new Set());
  assert.deepEqual([all.vms.length, all.problem], [maxVms, ""]);
  const more = admitVms([...many(0, maxVms + 5), vm(3)], new Set());
  assert.equal(more.vms.length, maxVms + 1);
  assert.match(more.problem, /VMs are left out: an agent may have 4096/);
  const known = new Set(many(0, maxVms - 1).map(({ id }) => id!.uuid));
  const changed = admitVms([vm(7), vm(9000), vm(9001)], known);
  assert.deepEqual(
    changed.vms.map(({ name }) => name),
    ["vm7", "vm9000"],
  );
});

test("a VM's description has a size", () => {
  const { vms, problem } = admitVms([vm(1, { big: "x".repeat(20_000) }), vm(2, { small: "x" })], new Set());
  assert.deepEqual(
    vms.map(({ name }) => name),
    ["vm2"],
  );
  assert.match(problem, /VM "vm1" is left out: its agent describes it in 20\d+ bytes, over 16384: use fewer labels/);
});

test("a message has a size", () => {
  checkMessage(4 << 20, 2 * maxVms);
  assert.throws(() => checkMessage((4 << 20) + 1), /bytes at once, over/);
  assert.throws(() => checkMessage(1, 2 * maxVms + 1), /8193 changes at once, over 8192/);
});

test("what comes faster than it may is read later, and quiet gives back", async () => {
  let now = 0;
  const waits: number[] = [];
  const pace = createPace({
    now: () => now,
    async sleep(ms) {
      waits.push(ms);
      now += ms;
    },
  });
  const { signal } = new AbortController();
  await pace.take(2 * maxVms, signal);
  assert.deepEqual(waits, []);
  await pace.take(200, signal);
  await pace.take(50, signal);
  assert.deepEqual(waits, [1000, 250]);
  now += 3_600_000;
  await pace.take(2 * maxVms, signal);
  assert.deepEqual(waits, [1000, 250]);
});
