// The only way to a guest: who calls, how much, which VM, may it, on the record.
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { VmId } from "../../proto/gen/cloudvmi/v1/guest_pb.ts";
import { VmSchema } from "../../proto/gen/cloudvmi/v1/vm_pb.ts";
import type { CallContext } from "../../wire/index.ts";
import { type Action, isVmAction, rulesOf, type SystemAction, type VmAction, vmActions } from "../action.ts";
import type { AuditLog } from "../audit/log.ts";
import { type Authenticator, type AuthFailure, authFailureText, type Principal } from "../auth/authenticator.ts";
import type { Credential } from "../auth/token.ts";
import type { FleetVm, Registry } from "../fleet/registry.ts";
import type { Decision } from "../policy/engine.ts";
import type { Policy } from "../policy/policy.ts";
import { denied, invalid, notFound, parseUuid, unauthenticated } from "../problem.ts";
import { roles } from "../state/schema.ts";
import type { Account } from "../state/users.ts";
import type { ActiveCall, Calls, Grant, RunningCall } from "./calls.ts";
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

/** `of`: what a VM's own host says that it takes, or why it can't be asked. Nobody learns it who may not list the VM. */
export interface VmQuestion extends VmRequirement {
  of?(vm: FleetVm): VmRequirement | ConnectError;
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
    question: VmQuestion,
    detail: Detail,
  ): Promise<AdmittedVm>;
  /** The VMs that the caller may list, of one project when it names one; on the record as one decision. */
  listable(call: ActiveCall, project: string): Promise<readonly FleetVm[]>;
  /** Decides anew on the running calls about a VM that has changed, and ends those that may not go on. */
  reviewVm(uuid: string): void;
  /** The same for the calls of a user whose roles have changed; without one, for all calls. */
  reviewUser(user?: string): Promise<void>;
  /** Ends the calls of a token that is good no more. */
  endToken(tokenId: string, failure: AuthFailure): void;
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
    if (named.length === 0) {
      // Decided on like another project's VM, so that both take the same time; and hidden, whatever policy says of it.
      const vm = absent(uuid ?? reference);
      const { errors } = policy.decideVm(principal.account, "list", { ...vm, project: nobodysProject });
      return { vm, decision: { ...noPolicy, errors } };
    }
    const decided = named.map((vm) => ({ vm, decision: policy.decideVm(principal.account, "list", vm) }));
    const visible = decided.filter(({ decision }) => decision.allow);
    return visible.length > 1 ? visible.map(({ vm }) => vm) : (visible[0] ?? decided[0]!);
  }

  function judge(account: Account, { action, table, vm, reference }: Grant): Verdict {
    const listed = policy.decideVm(account, "list", vm);
    if (!listed.allow) return { decision: listed, reason: hiddenReason, failure: hidden(reference) };
    const decision = policy.decideVm(account, action, vm, table);
    const reason = reasonOf(decision);
    return decision.allow
      ? { decision, reason }
      : { decision, reason, failure: denied(refusal(account, action, vm, decision)) };
  }

  function judgeSystem(account: Account, action: SystemAction): Verdict {
    const decision = policy.decideSystem(account, action);
    const reason = reasonOf(decision);
    return decision.allow
      ? { decision, reason }
      : { decision, reason, failure: denied(systemRefusal(account, action, decision)) };
  }

  /** Ends the call, on the record, unless nothing speaks against it. */
  function endIf({ decision, reason, failure }: Verdict, call: RunningCall, action = call.action, vm?: FleetVm): void {
    if (failure === undefined || call.signal.aborted) return;
    call.end(failure);
    if (action !== undefined) void record(call, action, decision, { ended: failure.rawMessage }, vm, reason);
  }

  function endByToken(call: RunningCall, failure: AuthFailure): void {
    const said = unauthenticated(authFailureText[failure]);
    endIf({ decision: noPolicy, reason: `the token is ${failure}`, failure: said }, call);
  }

  /** Ends the call if one of the grants does not hold any more. */
  function review(call: RunningCall, grants: Iterable<Grant>): void {
    for (const grant of grants) {
      // One that is not there at present is its agent's to end.
      const vm = registry.get(grant.vm.uuid) ?? grant.vm;
      const moved = vm.host !== grant.vm.host;
      endIf(moved ? movedAway(vm) : judge(call.principal.account, { ...grant, vm }), call, grant.action, vm);
    }
  }

  async function reviewCaller(call: RunningCall): Promise<void> {
    const result = await authenticator.authenticate(call.credential);
    if (!result.ok) return endByToken(call, result.failure);
    call.renew(result.principal);
    const { action } = call;
    if (action !== undefined && !isVmAction(action)) endIf(judgeSystem(result.principal.account, action), call);
    review(call, call.grants());
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
      return calls.open(context, principal, (call) => endByToken(call, "expired"));
    },

    async system(call, action, detail) {
      const { decision, failure } = judgeSystem(call.principal.account, action);
      await record(call, action, decision, detail);
      if (failure !== undefined) throw failure;
    },

    async vm(call, named, question, detail) {
      const reference = named?.uuid ?? "";
      if (reference === "") throw invalid("no VM is named: give its UUID or its name ('cloudvmi vms' lists them)");
      if (reference.length > maxReference) throw invalid(`a VM's name has at most ${maxReference} characters`);
      const found = find(call.principal, reference);
      if (Array.isArray(found)) {
        throw invalid(`${found.length} VMs are called ${JSON.stringify(reference)}: name one by its UUID`);
      }
      const { vm } = found;
      if (!found.decision.allow) {
        await record(call, question.action, found.decision, { vm: reference, ...detail }, vm, hiddenReason);
        throw hidden(reference);
      }
      const required = question.of?.(vm) ?? question;
      if (required instanceof ConnectError) {
        await record(call, question.action, noPolicy, detail, vm, required.rawMessage);
        throw required;
      }
      const { action, table = "" } = required;
      const grant: Grant = { action, table, vm, reference };
      const { decision, failure } = judge(call.principal.account, grant);
      if (failure !== undefined) {
        await record(call, action, decision, detail, vm);
        throw failure;
      }
      call.hold(grant);
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

    reviewVm(uuid) {
      for (const call of calls.running()) review(call, call.grantsOf(uuid));
    },

    async reviewUser(user) {
      const concerned = [...calls.running()].filter(
        ({ principal, signal }) => !signal.aborted && (user === undefined || principal.account.name === user),
      );
      await Promise.all(concerned.map(reviewCaller));
    },

    endToken(tokenId, failure) {
      for (const call of calls.running()) if (call.principal.tokenId === tokenId) endByToken(call, failure);
    },

    close: () => failures.close(),
  };
}

interface Verdict {
  readonly decision: Decision;
  /** For the record. */
  readonly reason: string;
  /** For the caller, who may not. */
  readonly failure?: ConnectError;
}

const noPolicy: Decision = { allow: false, policies: [], errors: [] };
const hiddenReason = "may not list the VM, or no such VM";
const hidden = (reference: string) =>
  notFound(`no VM ${JSON.stringify(reference)} among those you may see: 'cloudvmi vms' lists them`);

function movedAway(vm: FleetVm): Verdict {
  const failure = new ConnectError(`VM ${vm.name} has moved to another host: ask again`, Code.Aborted);
  return { decision: noPolicy, reason: "the VM has moved to another host", failure };
}

const noVm = create(VmSchema);

/** No project can be called so. */
const nobodysProject = "-";

/** A VM that nobody has, for a question about one that does not exist. */
function absent(reference: string): FleetVm {
  const nowhere = { uuid: reference, incarnation: "", name: reference, host: "", project: "", labels: {} };
  return { ...nowhere, reachable: false, vm: noVm };
}

function reasonOf({ policies, errors, allow }: Decision): string {
  const determining = policies.join(", ") || (allow ? "" : "no policy permits it");
  return errors.length === 0 ? determining : `${determining}; left out as failing: ${errors.join("; ")}`;
}

function refusal(account: Account, action: VmAction, vm: FleetVm, decision: Decision): string {
  if (decision.policies.length > 0) {
    return `'${action}' on VM ${vm.name} is forbidden by the policy ${decision.policies.join(", ")}: ask an operator`;
  }
  const needed = vmActions[action].role;
  const held = account.memberships.get(vm.project);
  if (held !== undefined && roles.indexOf(held) >= roles.indexOf(needed)) {
    return `no policy of this service permits '${action}' on VM ${vm.name}: ask an operator`;
  }
  const now = held === undefined ? "you have none there" : `you are ${held} there`;
  return `'${action}' on VM ${vm.name} needs the role ${needed} in project ${vm.project}, ${now}: ask an operator`;
}

function systemRefusal(account: Account, action: SystemAction, { policies }: Decision): string {
  return policies.length > 0
    ? `'${action}' is forbidden by the policy ${policies.join(", ")}`
    : `'${action}' needs an operator, which ${account.name} is not: ask one`;
}
