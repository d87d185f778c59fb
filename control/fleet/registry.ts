import type { VmId } from "../../proto/gen/cloudvmi/v1/guest_pb.ts";
import { type Vm, VmStatus } from "../../proto/gen/cloudvmi/v1/vm_pb.ts";
import type { VmResource } from "../policy/policy.ts";
import { parseUuid } from "../problem.ts";

/** A VM as the fleet knows it; `host` is the name of its agent. */
export interface FleetVm extends VmResource {
  readonly incarnation: string;
  readonly reachable: boolean;
  /** As its agent describes it, with project and status as they are here. */
  readonly vm: Vm;
}

/** What the database says: it outranks the agents. */
export interface Ownership {
  readonly projects: ReadonlySet<string>;
  /** VM UUID → project. */
  readonly owners: ReadonlyMap<string, string>;
}

export interface Registry {
  get(uuid: string): FleetVm | undefined;
  named(name: string): readonly FleetVm[];
  /** By name, then UUID. */
  all(): readonly FleetVm[];
  /** What an agent says. Names of VMs are the guests' owners' to choose, UUIDs too: neither is trusted to be unique. */
  apply(agent: string, present: readonly Vm[], gone: readonly VmId[]): void;
  /** The agent has listed everything: what it had before and did not list again is gone. */
  keepOnly(agent: string, uuids: ReadonlySet<string>): void;
  setReachable(agent: string, reachable: boolean): void;
  removeAgent(agent: string): void;
  setOwnership(ownership: Ownership): void;
  /** What is wrong with what the agent says; empty when nothing is. */
  problemOf(agent: string): string;
}

interface Claim {
  readonly agent: string;
  readonly vm: Vm;
}

/**
 * Which agent holds which VM. A UUID that two agents claim stays with the first, even while that one is
 * unreachable: a question about a VM must never be answered from another, so only the operator (or the first agent,
 * by no longer listing it) hands it on.
 *
 * @param onChange something that policy sees has changed: which VMs there are, their names, hosts, projects or labels
 */
export function createRegistry(onChange: () => void): Registry {
  const claims = new Map<string, Claim[]>();
  const reachable = new Set<string>();
  /** Agent → id, as the agent says it, → name of a VM that is left out. */
  const unusable = new Map<string, Map<string, string>>();
  let ownership: Ownership = { projects: new Set(), owners: new Map() };
  let vms = new Map<string, FleetVm>();
  let byName = new Map<string, FleetVm[]>();
  let sorted: FleetVm[] = [];

  function rebuild(): void {
    const before = vms;
    vms = new Map();
    for (const [uuid, [claim]] of claims) {
      if (claim !== undefined) vms.set(uuid, toFleetVm(uuid, claim));
    }
    sorted = [...vms.values()].sort((a, b) => compare(a.name, b.name) || compare(a.uuid, b.uuid));
    byName = Map.groupBy(sorted, (vm) => vm.name);
    const seenAlike = (vm: FleetVm) => isSameResource(vm, before.get(vm.uuid));
    if (vms.size !== before.size || !sorted.every(seenAlike)) onChange();
  }

  function toFleetVm(uuid: string, { agent, vm }: Claim): FleetVm {
    const up = reachable.has(agent);
    const said = ownership.owners.get(uuid) ?? vm.project;
    const project = ownership.projects.has(said) ? said : "";
    const incarnation = vm.id?.incarnation ?? "";
    const status = up ? vm.status : VmStatus.UNREACHABLE;
    return {
      uuid,
      incarnation,
      name: vm.name,
      host: agent,
      project,
      labels: vm.labels,
      reachable: up,
      vm: { ...vm, id: { $typeName: "cloudvmi.v1.VmId", uuid, incarnation }, project, host: agent, status },
    };
  }

  function drop(uuid: string, matches: (claim: Claim) => boolean): void {
    const left = (claims.get(uuid) ?? []).filter((claim) => !matches(claim));
    if (left.length === 0) claims.delete(uuid);
    else claims.set(uuid, left);
  }

  return {
    get: (uuid) => vms.get(uuid),
    named: (name) => byName.get(name) ?? [],
    all: () => sorted,
    apply(agent, present, gone) {
      for (const id of gone) {
        const { uuid, incarnation } = id;
        unusable.get(agent)?.delete(idText(id));
        const known = parseUuid(uuid);
        if (known === undefined) continue;
        drop(known, (claim) => claim.agent === agent && claim.vm.id?.incarnation === incarnation);
      }
      for (const vm of present) {
        const uuid = parseUuid(vm.id?.uuid ?? "");
        if (uuid === undefined || vm.id?.incarnation === "") {
          const left = unusable.get(agent) ?? new Map<string, string>();
          unusable.set(agent, left.set(idText(vm.id), vm.name));
          continue;
        }
        const others = claims.get(uuid) ?? [];
        const at = others.findIndex((claim) => claim.agent === agent);
        if (at < 0) claims.set(uuid, [...others, { agent, vm }]);
        else claims.set(uuid, others.with(at, { agent, vm }));
      }
      rebuild();
    },
    keepOnly(agent, uuids) {
      for (const uuid of claims.keys()) if (!uuids.has(uuid)) drop(uuid, (claim) => claim.agent === agent);
      rebuild();
    },
    setReachable(agent, up) {
      if (up) reachable.add(agent);
      else {
        reachable.delete(agent);
        // It says anew what it has when it is back.
        unusable.delete(agent);
      }
      rebuild();
    },
    removeAgent(agent) {
      reachable.delete(agent);
      unusable.delete(agent);
      for (const uuid of claims.keys()) drop(uuid, (claim) => claim.agent === agent);
      rebuild();
    },
    setOwnership(next) {
      ownership = next;
      rebuild();
    },
    problemOf(agent) {
      for (const [uuid, [first, ...others]] of claims) {
        if (others.some((claim) => claim.agent === agent)) {
          return `VM ${uuid} is left out: agent ${first?.agent} has one of that UUID; change one of them, or remove that agent if the VM has moved`;
        }
      }
      const [left] = unusable.get(agent)?.values() ?? [];
      return left === undefined ? "" : `VM ${JSON.stringify(left)} has no usable UUID or incarnation and is left out`;
    },
  };
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Whether policy sees two VMs alike. */
function isSameResource(a: VmResource, b: VmResource | undefined): boolean {
  if (b === undefined || a.name !== b.name || a.host !== b.host || a.project !== b.project) return false;
  const labels = Object.entries(a.labels);
  return labels.length === Object.keys(b.labels).length && labels.every(([label, value]) => b.labels[label] === value);
}

function idText(id: VmId | undefined): string {
  return `${id?.uuid} ${id?.incarnation}`;
}
