import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { type Vm, VmSchema, VmStatus } from "../../proto/gen/cloudvmi/v1/vm_pb.ts";
import { createRegistry } from "./registry.ts";

const uuid = "00000000-0000-4000-8000-00000000aaa1";

function vm(changes: { uuid?: string; incarnation?: string } & Partial<Pick<Vm, "name" | "labels" | "status">> = {}) {
  const { uuid: own = uuid, incarnation = "1", ...rest } = changes;
  return create(VmSchema, { id: { uuid: own, incarnation }, name: "web1", project: "shop", ...rest });
}

test("a change is told only if policy sees it", () => {
  let changes = 0;
  const registry = createRegistry(() => changes++);
  const told = (change: () => void) => {
    const before = changes;
    change();
    return changes > before;
  };
  const put = (each: Vm) => () => registry.apply("host1", [each], []);
  assert.equal(told(put(vm())), true);
  assert.equal(told(put(vm())), false);
  assert.equal(told(put(vm({ status: VmStatus.PAUSED }))), false);
  assert.equal(
    told(() => registry.setReachable("host1", true)),
    false,
  );
  assert.equal(registry.get(uuid)?.vm.status, VmStatus.PAUSED);
  assert.equal(told(put(vm({ incarnation: "2" }))), false);
  assert.equal(told(put(vm({ name: "web2" }))), true);
  assert.equal(told(put(vm({ name: "web2", labels: { tier: "web" } }))), true);
  assert.equal(told(put(vm({ name: "web2", labels: { tier: "db" } }))), true);
  assert.equal(told(put(vm({ name: "web2" }))), true);
  assert.equal(
    told(() => registry.setOwnership({ projects: new Set(["shop"]), owners: new Map() })),
    true,
  );
  assert.equal(
    told(() => registry.removeAgent("host1")),
    true,
  );
  assert.equal(told(put(vm({ name: "web2" }))), true);
});

test("a VM that can't be used is a problem of its agent's for as long as it is there", () => {
  const registry = createRegistry(() => {});
  const odd = vm({ uuid: "no-uuid", name: "odd" });
  const nameless = vm({ incarnation: "", name: "nameless" });
  registry.apply("host1", [odd, nameless], []);
  assert.match(registry.problemOf("host1"), /VM "odd" has no usable UUID/);
  registry.apply("host1", [], [odd.id!]);
  assert.match(registry.problemOf("host1"), /VM "nameless" has no usable UUID/);
  registry.apply("host1", [], [nameless.id!]);
  assert.equal(registry.problemOf("host1"), "");

  registry.apply("host1", [odd], []);
  registry.setReachable("host1", false);
  registry.apply("host1", [vm()], []);
  registry.setReachable("host1", true);
  assert.equal(registry.problemOf("host1"), "");
});
