import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { type Vm, VmSchema, VmStatus } from "../../proto/gen/cloudvmi/v1/vm_pb.ts";
import { createRegistry, type RefusedClaim } from "./registry.ts";

const uuid = "00000000-0000-4000-8000-00000000aaa1";

function vm(
  changes: { uuid?: string; incarnation?: string } & Partial<Pick<Vm, "name" | "labels" | "status" | "project">> = {},
) {
  const { uuid: own = uuid, incarnation = "1", ...rest } = changes;
  return create(VmSchema, { id: { uuid: own, incarnation }, name: "web1", project: "shop", ...rest });
}

/** A registry in which each VM is `holder`'s. */
function registryOf({ holder = "host1", onChange = (_: string) => {}, onRefused = (_: RefusedClaim) => {} } = {}) {
  const holders = new Map<string, string>();
  const registry = createRegistry({ agentOf: (each) => holders.get(each) ?? holder, onChange, onRefused });
  const move = (each: string, agent: string) => {
    holders.set(each, agent);
    registry.refresh(each);
  };
  return { registry, move };
}

test("a change is told only if policy sees it", () => {
  let changes = 0;
  const { registry } = registryOf({ onChange: () => changes++ });
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
  const { registry } = registryOf();
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

const owned = (projects: string[], owners: Record<string, string> = {}) => ({
  projects: new Set(projects),
  owners: new Map(Object.entries(owners)),
});

test("only the agent that has a VM is listened to, also while it has none of that UUID", () => {
  const told: RefusedClaim[] = [];
  const { registry, move } = registryOf({ onRefused: (claim) => told.push(claim) });
  registry.setOwnership(owned(["shop", "bank"]));
  const shown = () => {
    const found = registry.get(uuid);
    return found === undefined ? "none" : [found.host, found.project, found.name, found.incarnation].join(" ");
  };
  registry.apply("host1", [vm()], []);
  registry.apply("evil", [vm({ incarnation: "666", name: "mine", project: "bank" })], []);
  assert.equal(shown(), "host1 shop web1 1");
  assert.deepEqual(registry.named("mine"), []);
  registry.apply("host1", [], [vm().id!]);
  assert.equal(shown(), "none");
  registry.list("evil", [vm({ incarnation: "667", name: "mine", project: "bank" })]);
  registry.setReachable("evil", true);
  assert.equal(shown(), "none");
  assert.deepEqual(told, [{ uuid, agent: "evil", holder: "host1" }]);
  assert.match(registry.problemOf("evil"), /VM .*aaa1 is left out: agent host1 has it; .*vms move .*aaa1 evil/);
  assert.equal(registry.problemOf("host1"), "");
  registry.apply("host1", [vm({ incarnation: "2" })], []);
  assert.equal(shown(), "host1 shop web1 2");

  move(uuid, "evil");
  assert.equal(shown(), "evil bank mine 667");
  assert.equal(registry.problemOf("evil"), "");
  assert.match(registry.problemOf("host1"), /agent evil has it/);
  registry.apply("host1", [vm({ incarnation: "3" })], []);
  assert.equal(told.length, 2);
});

test("names and the list follow each change", () => {
  const { registry } = registryOf();
  const other = "00000000-0000-4000-8000-00000000aaa0";
  const names = () => registry.all().map((each) => `${each.name} ${each.uuid.slice(-1)}`);
  registry.list("host1", [vm(), vm({ uuid: other })]);
  assert.deepEqual(names(), ["web1 0", "web1 1"]);
  assert.equal(registry.named("web1").length, 2);
  registry.apply("host1", [vm({ name: "db1" })], []);
  assert.deepEqual(names(), ["db1 1", "web1 0"]);
  assert.deepEqual(
    registry.named("web1").map((each) => each.uuid),
    [other],
  );
  registry.list("host1", [vm({ name: "db1" })]);
  assert.deepEqual(names(), ["db1 1"]);
  assert.deepEqual(registry.named("web1"), []);
  registry.removeAgent("host1");
  assert.deepEqual(names(), []);
  assert.deepEqual(registry.named("db1"), []);
});

test("only the VMs of a message are told as changed", () => {
  const changed: string[] = [];
  const { registry } = registryOf({ onChange: (each) => changed.push(each) });
  const other = "00000000-0000-4000-8000-00000000aaa0";
  registry.list("host1", [vm(), vm({ uuid: other })]);
  changed.length = 0;
  registry.apply("host1", [vm({ name: "db1" })], []);
  assert.deepEqual(changed, [uuid]);
  registry.setOwnership(owned(["shop", "bank"], { [other]: "bank" }));
  assert.deepEqual(changed, [uuid, uuid, other]);
});
