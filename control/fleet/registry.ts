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
  /** All that an agent has: what it had before and is not among it is gone. */
  list(agent: string, present: readonly Vm[]): void;
  /** What has changed at an agent since. Names of VMs are the guests' owners' to choose, UUIDs too: neither is trusted to be unique. */
  apply(agent: string, present: readonly Vm[], gone: readonly VmId[]): void;
  setReachable(agent: string, reachable: boolean): void;
  removeAgent(agent: string): void;
  setOwnership(ownership: Ownership): void;
  /** Must be called when another agent has the VM than before. */
  refresh(uuid: string): void;
  /** UUIDs of the VMs that the agent announces, whoever has them. */
  saidBy(agent: string): { has(uuid: string): boolean; readonly size: number };
  /** The agents that announce the VM, whoever has it. */
  claimants(uuid: string): readonly string[];
  /** What is wrong with what the agent says; empty when nothing is. */
  problemOf(agent: string): string;
}

/** An agent announces a VM that another agent has. */
export interface RefusedClaim {
  readonly uuid: string;
  readonly agent: string;
  readonly holder: string;
}

export interface RegistryOptions {
  /** The one agent whose word on a VM counts. */
  agentOf(uuid: string): string | undefined;
  /** Something that policy sees of the VM has changed: that it is there, its name, host, project or labels. */
  onChange(uuid: string): void;
  /** Told once for each agent and VM. */
  onRefused(claim: RefusedClaim): void;
}

/** VMs without a usable UUID that are remembered of an agent. */
const maxUnusable = 100;

/**
 * What the agents say of their VMs. Only the agent that a VM is bound to is listened to, even while it is unreachable
 * or has no such VM: a question about a VM must never be answered from another. What others say of it, its project
 * above all, waits until an operator gives it to them.
 *
 * A message costs as much as it has VMs, however many VMs there are.
 */
export function createRegistry({ agentOf, onChange, onRefused }: RegistryOptions): Registry {
  /** Agent → UUID → VM as that agent describes it. */
  const said = new Map<string, Map<string, Vm>>();
  const reachable = new Set<string>();
  /** Agent → id, as the agent says it, → name of a VM that is left out. */
  const unusable = new Map<string, Map<string, string>>();
  /** Agent → VMs for which it has been told that it may not have them. */
  const refused = new Map<string, Set<string>>();
  let ownership: Ownership = { projects: new Set(), owners: new Map() };
  const vms = new Map<string, FleetVm>();
  const byName = new Map<string, Map<string, FleetVm>>();
  /** Undefined when it has to be made anew. */
  let sorted: FleetVm[] | undefined;

  function update(uuid: string): void {
    const before = vms.get(uuid);
    const holder = agentOf(uuid);
    const vm = holder === undefined ? undefined : said.get(holder)?.get(uuid);
    if (holder === undefined || vm === undefined) {
      if (before === undefined) return;
      vms.delete(uuid);
      takeName(before);
      sorted = undefined;
      onChange(uuid);
      return;
    }
    const now = toFleetVm(uuid, holder, vm);
    vms.set(uuid, now);
    if (before !== undefined && before.name !== now.name) takeName(before);
    byName.set(now.name, (byName.get(now.name) ?? new Map()).set(uuid, now));
    sorted = undefined;
    if (!isSameResource(now, before)) onChange(uuid);
  }

  function takeName({ name, uuid }: FleetVm): void {
    const namesakes = byName.get(name);
    namesakes?.delete(uuid);
    if (namesakes?.size === 0) byName.delete(name);
  }

  function toFleetVm(uuid: string, agent: string, vm: Vm): FleetVm {
    const up = reachable.has(agent);
    const claimed = ownership.owners.get(uuid) ?? vm.project;
    const project = ownership.projects.has(claimed) ? claimed : "";
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

  function put(agent: string, vm: Vm): void {
    const uuid = usableUuid(vm);
    if (uuid === undefined) {
      const left = unusable.get(agent) ?? new Map<string, string>();
      // To show that there are some, not all of them.
      if (left.size < maxUnusable) unusable.set(agent, left.set(idText(vm.id), vm.name));
      return;
    }
    said.set(agent, (said.get(agent) ?? new Map()).set(uuid, vm));
    const holder = agentOf(uuid);
    if (holder === agent) update(uuid);
    else if (holder !== undefined) refuse({ uuid, agent, holder });
  }

  function refuse(claim: RefusedClaim): void {
    const { uuid, agent } = claim;
    const told = refused.get(agent) ?? new Set();
    if (told.has(uuid)) return;
    refused.set(agent, told.add(uuid));
    onRefused(claim);
  }

  function updateAll(uuids: Iterable<string> | undefined): void {
    for (const uuid of uuids ?? []) update(uuid);
  }

  return {
    get: (uuid) => vms.get(uuid),
    named: (name) => [...(byName.get(name)?.values() ?? [])],
    all() {
      sorted ??= [...vms.values()].sort((a, b) => compare(a.name, b.name) || compare(a.uuid, b.uuid));
      return sorted;
    },
    list(agent, present) {
      const before = said.get(agent)?.keys();
      said.set(agent, new Map());
      unusable.delete(agent);
      for (const vm of present) put(agent, vm);
      updateAll(before);
    },
    apply(agent, present, gone) {
      for (const id of gone) {
        unusable.get(agent)?.delete(idText(id));
        const uuid = parseUuid(id.uuid);
        if (uuid === undefined || said.get(agent)?.get(uuid)?.id?.incarnation !== id.incarnation) continue;
        said.get(agent)?.delete(uuid);
        update(uuid);
      }
      for (const vm of present) put(agent, vm);
    },
    setReachable(agent, up) {
      if (up) reachable.add(agent);
      else {
        reachable.delete(agent);
        // It says anew what it has when it is back.
        unusable.delete(agent);
      }
      updateAll(said.get(agent)?.keys());
    },
    removeAgent(agent) {
      reachable.delete(agent);
      unusable.delete(agent);
      refused.delete(agent);
      const before = said.get(agent)?.keys();
      said.delete(agent);
      updateAll(before);
    },
    setOwnership(next) {
      ownership = next;
      updateAll(vms.keys());
    },
    refresh(uuid) {
      for (const told of refused.values()) told.delete(uuid);
      update(uuid);
    },
    saidBy: (agent) => said.get(agent) ?? new Map(),
    claimants: (uuid) => [...said].filter(([, vmsOf]) => vmsOf.has(uuid)).map(([agent]) => agent),
    problemOf(agent) {
      const [first, ...others] = [...(said.get(agent)?.keys() ?? [])].filter((uuid) => agentOf(uuid) !== agent);
      if (first !== undefined) {
        const more = others.length === 0 ? "" : `, and ${others.length} more`;
        return `VM ${first} is left out: agent ${agentOf(first)} has it${more}; if it has moved here: 'cloudvmi admin vms move ${first} ${agent}', if not, find out why this host has a VM of that UUID`;
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

/** Undefined for a VM that can't be asked for. */
export function usableUuid({ id }: Vm): string | undefined {
  return id === undefined || id.incarnation === "" ? undefined : parseUuid(id.uuid);
}

/** The id as its agent says it. */
export function idText(id: VmId | undefined): string {
  return `${id?.uuid} ${id?.incarnation}`;
}
