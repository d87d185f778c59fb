import type { Entities, EntityJson, TypeAndId } from "@cedar-policy/cedar-wasm/nodejs";
import type { SystemAction, VmAction } from "../action.ts";
import { type Role, roles } from "../state/schema.ts";
import type { Account } from "../state/users.ts";
import type { Decision, PolicyEngine } from "./engine.ts";

/** What policies can see of a VM. */
export interface VmResource {
  readonly uuid: string;
  readonly name: string;
  readonly host: string;
  /** Empty: no project owns it. */
  readonly project: string;
  readonly labels: Readonly<Record<string, string>>;
}

export interface Policy {
  /** `table`: the name of the table for the action of that name. */
  decideVm(account: Account, action: VmAction, vm: VmResource, table?: string): Decision;
  decideSystem(account: Account, action: SystemAction): Decision;
  /** Must be called when a VM's name, host, project or labels have changed, and when there is one that was not there. */
  forget(uuid: string): void;
}

const maxRemembered = 20_000;

/** Asks Cedar, and remembers what it said: a decision costs it some 0.3 ms. */
export function createPolicy(engine: PolicyEngine): Policy {
  /** UUID of the VM, empty for the service itself, → what was asked → what was said. */
  const remembered = new Map<string, Map<string, Decision>>();
  let size = 0;

  function remember(uuid: string, key: string, decide: () => Decision): Decision {
    const known = remembered.get(uuid)?.get(key);
    if (known !== undefined) return known;
    const decision = decide();
    if (size >= maxRemembered) {
      remembered.clear();
      size = 0;
    }
    remembered.set(uuid, (remembered.get(uuid) ?? new Map()).set(key, decision));
    size++;
    return decision;
  }

  return {
    decideVm: (account, action, vm, table = "") =>
      remember(vm.uuid, `${account.fingerprint} ${action} ${vm.project} ${table}`, () =>
        engine.decide({
          principal: uid("User", account.name),
          action,
          resource: uid("Vm", vm.uuid),
          context: action === "table" ? { table } : {},
          entities: [...userEntities(account), ...vmEntities(vm, engine.usesTags ? vm.labels : {})],
        }),
      ),
    decideSystem: (account, action) =>
      remember("", `${account.fingerprint} ${action}`, () =>
        engine.decide({
          principal: uid("User", account.name),
          action,
          resource: uid("System", "cloudvmi"),
          context: {},
          entities: userEntities(account),
        }),
      ),
    forget(uuid) {
      size -= remembered.get(uuid)?.size ?? 0;
      remembered.delete(uuid);
    },
  };
}

const uid = (type: string, id: string): TypeAndId => ({ type: `CloudVMI::${type}`, id });
const roleUid = (project: string, role: Role) => uid("Role", `${project}/${role}`);

/** The user, and the roles it has with those that each includes. */
function userEntities(account: Account): Entities {
  const memberships = [...account.memberships];
  const user: EntityJson = {
    uid: uid("User", account.name),
    attrs: { operator: account.operator },
    parents: memberships.map(([project, role]) => roleUid(project, role)),
  };
  const included = memberships.flatMap(([project, role]) =>
    roles.slice(0, roles.indexOf(role) + 1).map((each, index): EntityJson => {
      const below = roles[index - 1];
      return { uid: roleUid(project, each), attrs: {}, parents: below === undefined ? [] : [roleUid(project, below)] };
    }),
  );
  return [user, ...included];
}

/**
 * As much for every VM, so that the time of a refusal does not tell one from another: with a project also for a VM that has
 * none, of a name that none can have.
 */
function vmEntities(vm: VmResource, tags: Readonly<Record<string, string>>): Entities {
  const name = vm.project === "" ? "-" : vm.project;
  const project = uid("Project", name);
  const attrs: EntityJson["attrs"] = { name: vm.name, host: vm.host };
  if (vm.project !== "") attrs.project = { __entity: project };
  const roleAttributes = roles.map((role) => [role, { __entity: roleUid(name, role) }] as const);
  return [
    { uid: uid("Vm", vm.uuid), attrs, parents: [], tags: { ...tags } },
    { uid: project, attrs: Object.fromEntries(roleAttributes), parents: [] },
  ];
}
