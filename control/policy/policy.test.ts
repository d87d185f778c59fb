import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { type Action, isVmAction, type SystemAction, systemActions, type VmAction, vmActions } from "../action.ts";
import { type Role, roles } from "../state/schema.ts";
import type { Account } from "../state/users.ts";
import { actionEntities, loadPolicies, PolicyError } from "./engine.ts";
import { createPolicy, type VmResource } from "./policy.ts";

const vm: VmResource = {
  uuid: "00000000-0000-4000-8000-000000000001",
  name: "web1",
  host: "host1",
  project: "shop",
  labels: { tier: "web" },
};

function account(name: string, memberships: Record<string, Role>, operator = false): Account {
  const fingerprint = JSON.stringify([name, operator, memberships]);
  return { name, operator, createdMs: 0, memberships: new Map(Object.entries(memberships)), fingerprint };
}

/** Who may do what to a VM of the project "shop". Total: a new action without a row does not compile. */
const allowed: { [A in VmAction]: readonly Role[] } = {
  list: ["viewer", "analyst", "responder", "owner"],
  table: ["viewer", "analyst", "responder", "owner"],
  read: ["analyst", "responder", "owner"],
  stream: ["analyst", "responder", "owner"],
  scan: ["analyst", "responder", "owner"],
  translate: ["analyst", "responder", "owner"],
  symbols: ["analyst", "responder", "owner"],
  registers: ["analyst", "responder", "owner"],
  pause: ["responder", "owner"],
  resume: ["responder", "owner"],
};

const everyone: { [A in SystemAction]: boolean } = {
  account: true,
  ownTokens: true,
  sql: true,
  manageProjects: false,
  manageUsers: false,
  manageTokens: false,
  manageOwners: false,
  manageAgents: false,
  listAllVms: false,
  readAudit: false,
};

const policy = createPolicy(loadPolicies());

test("every action of the code is one of the schema, and the other way round", () => {
  const actions = [...Object.keys(vmActions), ...Object.keys(systemActions)] as Action[];
  assert.deepEqual([...actionEntities.keys()].sort(), actions.sort());
});

test("role by action: every cell", () => {
  for (const action of Object.keys(vmActions) as VmAction[]) {
    for (const role of roles) {
      const decision = policy.decideVm(account(`u-${role}`, { shop: role }), action, vm, "processes");
      assert.equal(decision.allow, allowed[action].includes(role), `${role} ${action}`);
      assert.deepEqual(decision.errors, []);
    }
    assert.equal(allowed[action][0], vmActions[action].role, `${action}: the role that a refusal names`);
  }
});

test("no role reaches a VM of another project, or one that no project owns", () => {
  for (const action of Object.keys(vmActions) as VmAction[]) {
    const owner = account("elsewhere", { bank: "owner" });
    assert.equal(policy.decideVm(owner, action, vm).allow, false, action);
    assert.equal(policy.decideVm(owner, action, { ...vm, project: "" }).allow, false, action);
  }
});

test("Cedar is asked as much about each VM; labels are told only if a policy looks at them", () => {
  const asked = (usesTags: boolean, changes: Partial<VmResource>) => {
    let size = 0;
    const counting = createPolicy({
      usesTags,
      decide({ entities }) {
        size = entities.length;
        assert.equal(Object.keys(entities[entities.length - 2]?.tags ?? {}).length, usesTags ? 1 : 0);
        return { allow: false, policies: [], errors: [] };
      },
    });
    counting.decideVm(account("ann", { bank: "viewer" }), "list", { ...vm, ...changes });
    return size;
  };
  for (const usesTags of [true, false]) assert.equal(asked(usesTags, {}), asked(usesTags, { project: "" }));
  assert.equal(loadPolicies().usesTags, false);
});

test("operators administer, and have no action on a guest by it", () => {
  const operator = account("op", {}, true);
  const user = account("ann", { shop: "owner" });
  for (const action of Object.keys(systemActions) as SystemAction[]) {
    assert.equal(policy.decideSystem(operator, action).allow, true, action);
    assert.equal(policy.decideSystem(user, action).allow, everyone[action], action);
  }
  for (const action of Object.keys(vmActions) as VmAction[]) {
    assert.equal(policy.decideVm(operator, action, vm).allow, false, action);
  }
});

test("a decision names the policies that made it and follows changed roles, owners and labels", () => {
  const directory = mkdtempSync(path.join(tmpdir(), "cloudvmi-policy-"));
  try {
    writeFileSync(
      path.join(directory, "own.cedar"),
      `@id("never") forbid (principal, action, resource) when { resource.hasTag("secret") };`,
    );
    const engine = loadPolicies(directory);
    assert.equal(engine.usesTags, true);
    const decided = createPolicy(engine);
    const ann = account("ann", { shop: "analyst" });
    assert.deepEqual(decided.decideVm(ann, "read", vm).policies, ["analyst"]);
    assert.equal(decided.decideVm(account("ann", {}), "read", vm).allow, false);
    assert.equal(decided.decideVm(ann, "read", { ...vm, project: "bank" }).allow, false);
    const labelled = { ...vm, labels: { secret: "yes" } };
    decided.forget(vm.uuid);
    assert.deepEqual(decided.decideVm(ann, "read", labelled).policies, ["never"]);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("an operator's own policies join in, and see labels and tables", () => {
  const directory = mkdtempSync(path.join(tmpdir(), "cloudvmi-policy-"));
  try {
    writeFileSync(
      path.join(directory, "web.cedar"),
      `@id("not-web") forbid (principal, action == CloudVMI::Action::"stream", resource) when { resource.hasTag("tier") && resource.getTag("tier") == "web" };
       forbid (principal, action == CloudVMI::Action::"table", resource) when { context.table == "processes" };`,
    );
    const own = createPolicy(loadPolicies(directory));
    const ann = account("ann", { shop: "owner" });
    assert.deepEqual(own.decideVm(ann, "stream", vm), { allow: false, policies: ["not-web"], errors: [] });
    assert.equal(own.decideVm(ann, "stream", { ...vm, uuid: vm.uuid.replace("1", "2"), labels: {} }).allow, true);
    assert.deepEqual(own.decideVm(ann, "table", vm, "processes").policies, ["web-2"]);
    assert.equal(own.decideVm(ann, "table", vm, "kernel_modules").allow, true);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("a policy that can't be used stops the start with one line that names its file", () => {
  const directory = mkdtempSync(path.join(tmpdir(), "cloudvmi-policy-"));
  const file = path.join(directory, "own.cedar");
  const refused: [text: string, says: RegExp][] = [
    ["permit (principal", /own\.cedar: .*unexpected end/],
    ["permit (principal, action, resource) when { resource.colour == 1 };", /own\.cedar: policy own-1: .*colour/],
    [`permit (principal, action == CloudVMI::Action::"raed", resource);`, /own\.cedar: policy own-1: .*raed/],
    [`@id("viewer") permit (principal, action, resource);`, /policy viewer is also in .*tenants\.cedar/],
    ["permit (principal == ?principal, action, resource);", /templates/],
  ];
  try {
    for (const [text, says] of refused) {
      writeFileSync(file, text);
      assert.throws(
        () => loadPolicies(directory),
        (error) => {
          assert.ok(error instanceof PolicyError);
          assert.match(error.message, says);
          assert.doesNotMatch(error.message, /\n/);
          return true;
        },
      );
    }
    assert.throws(() => loadPolicies(path.join(directory, "absent")), /can't read/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("action names do not overlap", () => {
  for (const action of Object.keys(systemActions)) assert.equal(isVmAction(action), false);
});
