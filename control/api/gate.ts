// The only way to a guest: who calls, how much, which VM, may it, on the record.
import { create } from "@bufbuild/protobuf";
import type { VmId } from "../../proto/gen/cloudvmi/v1/guest_pb.ts";
import { VmSchema } from "../../proto/gen/cloudvmi/v1/vm_pb.ts";
import type { CallContext } from "../../wire/index.ts";
import { type Action, rulesOf, type SystemAction, type VmAction, vmActions } from "../action.ts";
import type { AuditLog } from "../audit/log.ts";
import { type Authenticator, authFailureText, type Principal } from "../auth/authenticator.ts";
import type { Credential } from "../auth/token.ts";
import type { FleetVm, Registry } from "../fleet/registry.ts";
import type { Decision } from "../policy/engine.ts";
import type { Policy } from "../policy/policy.ts";
import { denied, invalid, notFound, parseUuid, unauthenticated } from "../problem.ts";
import { roles } from "../state/schema.ts";
import type { ActiveCall, Calls } from "./calls.ts";
import { createFailureRecorder } from "./failures.ts";
import { type Detail, detailText } from "./rpc.ts";

/** A client's connection, or one HTTP request. */
export interface Session {
  readonly credential: Credential;
  /** Told of each call whose credential was accepted. */
  admitted?(): void;
}

export interface AdmittedVm {
  readonly vm: FleetVm;
  /** The record is on the disk. Nothing may be answered before it is; it has settled already for actions that act. */
  readonly recorded: Promise<void>;
}

export interface VmRequirement {
  readonly action: VmAction;
  /** For the action `table`. */
  readonly table?: string;
}

export interface Gate {
  /** Throws Unauthenticated, also on the record, with what to do. */
  authenticate(credential: Credential): Promise<Principal>;
  /** Authenticates as of now and takes a place; throws Unauthenticated or ResourceExhausted. */
  enter(context: CallContext<Session>): Promise<ActiveCall>;
  /** Decides on an action on the service; returns once it is on the record. Throws PermissionDenied. */
  system(call: ActiveCall, action: SystemAction, detail: Detail): Promise<void>;
  /**
   * Finds a VM and decides. Throws NotFound alike for a VM that the caller may not list and one that does not exist;
   * PermissionDenied only for one that it may list.
   */
  vm(
    call: ActiveCall,
    named: Pick<VmId, "uuid" | "incarnation"> | undefined,
    requirement: VmRequirement | ((vm: FleetVm) => VmRequirement),
    detail: Detail,
  ): Promise<AdmittedVm>;
  /** The VMs that the caller may list, of one project when it names one; on the record as one decision. */
  listable(call: ActiveCall, project: string): Promise<readonly FleetVm[]>;
  close(): void;
}

export interface GateOptions {
  readonly authenticator: Authenticator;
  readonly policy: Policy;
  readonly audit: AuditLog;
  readonly registry: Registry;
  readonly calls: Calls;
}

const maxReference = 253;

export function createGate({ authenticator, policy, audit, registry, calls }: GateOptions): Gate {
  const failures = createFailureRecorder(audit);

  function record(
    { principal }: ActiveCall,
    action: Action,
    decision: Decision,
    detail: Detail,
    vm?: FleetVm,
    reason = reasonOf(decision),
  ): Promise<void> {
    const recorded = audit.append({
      time_ms: Date.now(),
      user_name: principal.account.name,
      token_id: principal.tokenId,
      action,
      vm_uuid: vm?.uuid ?? "",
      vm_incarnation: vm?.incarnation ?? "",
      project: vm?.project ?? "",
      decision: decision.allow ? "allow" : "deny",
      reason,
      detail: detailText(detail),
    });
    // Whoever must wait for it does; until then its failure is not an unhandled one.
    recorded.catch(() => {});
    return recorded;
  }

  /** The one VM of that name or UUID that the caller may list. */
  function find(principal: Principal, reference: string): { vm: FleetVm; decision: Decision } | FleetVm[] {
    const uuid = parseUuid(reference);
    const named =
      uuid === undefined ? registry.named(reference) : [registry.get(uuid)].filter((vm) => vm !== undefined);
    // What does not exist is decided on like what does, so that both take the same time.
    const candidates = named.length === 0 ? [absent(uuid ?? reference)] : named;
    const decided = candidates.map((vm) => ({ vm, decision: policy.decideVm(principal.account, "list", vm) }));
    const visible = decided.filter(({ decision }) => decision.allow);
    return visible.length > 1 ? visible.map(({ vm }) => vm) : (visible[0] ?? decided[0]!);
  }

  async function authenticate(credential: Credential): Promise<Principal> {
    const result = await authenticator.authenticate(credential);
    if (result.ok) return result.principal;
    await failures.record(result.failure, result.tokenId, result.user);
    throw unauthenticated(authFailureText[result.failure]);
  }

  return {
    authenticate,

    async enter(context) {
      const principal = await authenticate(context.principal.credential);
      context.principal.admitted?.();
      return calls.open(context, principal);
    },

    async system(call, action, detail) {
      const decision = policy.decideSystem(call.principal.account, action);
      await record(call, action, decision, detail);
      if (decision.allow) return;
      throw denied(
        decision.policies.length > 0
          ? `'${action}' is forbidden by the policy ${decision.policies.join(", ")}`
          : `'${action}' needs an operator, which ${call.principal.account.name} is not: ask one`,
      );
    },

    async vm(call, named, requirement, detail) {
      const reference = named?.uuid ?? "";
      if (reference === "") throw invalid("no VM is named: give its UUID or its name ('cloudvmi vms' lists them)");
      if (reference.length > maxReference) throw invalid(`a VM's name has at most ${maxReference} characters`);
      const found = find(call.principal, reference);
      if (Array.isArray(found)) {
        throw invalid(`${found.length} VMs are called ${JSON.stringify(reference)}: name one by its UUID`);
      }
      const { vm } = found;
      const { action, table } = typeof requirement === "function" ? requirement(vm) : requirement;
      if (!found.decision.allow) {
        await record(
          call,
          action,
          found.decision,
          { vm: reference, ...detail },
          vm,
          "may not list the VM, or no such VM",
        );
        throw notFound(`no VM ${JSON.stringify(reference)} among those you may see: 'cloudvmi vms' lists them`);
      }
      const decision = policy.decideVm(call.principal.account, action, vm, table);
      if (!decision.allow) {
        await record(call, action, decision, detail, vm);
        throw denied(refusal(call.principal, action, vm, decision));
      }
      call.begin(action);
      const recorded = record(call, action, decision, detail, vm);
      if (rulesOf(action).effect === "act") await recorded;
      return { vm, recorded };
    },

    async listable(call, project) {
      const vms = registry
        .all()
        .filter(
          (vm) =>
            (project === "" || vm.project === project) && policy.decideVm(call.principal.account, "list", vm).allow,
        );
      const decision: Decision = { allow: true, policies: [], errors: [] };
      await record(call, "list", decision, { project, vms: vms.length }, undefined, "each VM by policy");
      return vms;
    },

    close: () => failures.close(),
  };
}

const noVm = create(VmSchema);

/** A VM that nobody has, for a question about one that does not exist. */
function absent(reference: string): FleetVm {
  const nowhere = { uuid: reference, incarnation: "", name: reference, host: "", project: "", labels: {} };
  return { ...nowhere, reachable: false, vm: noVm };
}

function reasonOf({ policies, errors, allow }: Decision): string {
  const determining = policies.join(", ") || (allow ? "" : "no policy permits it");
  return errors.length === 0 ? determining : `${determining}; left out as failing: ${errors.join("; ")}`;
}

function refusal(principal: Principal, action: VmAction, vm: FleetVm, decision: Decision): string {
  if (decision.policies.length > 0) {
    return `'${action}' on VM ${vm.name} is forbidden by the policy ${decision.policies.join(", ")}: ask an operator`;
  }
  const needed = vmActions[action].role;
  const held = principal.account.memberships.get(vm.project);
  if (held !== undefined && roles.indexOf(held) >= roles.indexOf(needed)) {
    return `no policy of this service permits '${action}' on VM ${vm.name}: ask an operator`;
  }
  const now = held === undefined ? "you have none there" : `you are ${held} there`;
  return `'${action}' on VM ${vm.name} needs the role ${needed} in project ${vm.project}, ${now}: ask an operator`;
}
