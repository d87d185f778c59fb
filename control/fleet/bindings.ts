import { notFound } from "../problem.ts";
import { bindVms, listBindings, rebindVm, unbindVms } from "../state/bindings.ts";
import type { State } from "../state/schema.ts";

/**
 * Which agent has which VM, from the first that announces it until an operator moves it or removes that agent: an agent
 * must not become another's by announcing its UUID while that VM is away, as at each restart.
 */
export interface Bindings {
  agentOf(uuid: string): string | undefined;
  /** Gives the agent those of the VMs, which are there, that no agent has; on the disk when it resolves. */
  claim(agent: string, uuids: readonly string[]): Promise<void>;
  /** Throws NotFound for a VM that no agent has. */
  move(uuid: string, agent: string): Promise<void>;
  /** The agent is no more: whoever announces its VMs has them. Returns the VMs. */
  release(agent: string): Promise<readonly string[]>;
  /** Agents that have VMs. */
  agents(): readonly string[];
}

export interface BindingsOptions {
  readonly state: State;
  /** Whether a binding has to stay, however many its agent has: the VM is there, or an operator has said whose it is. */
  isNeeded(uuid: string): boolean;
  /** VMs that one agent keeps while they are away. */
  readonly max?: number;
}

/** Hosts make and destroy VMs for years: what an agent had longest ago is forgotten beyond so many. */
const defaultMax = 16_384;

export async function openBindings({ state, isNeeded, max = defaultMax }: BindingsOptions): Promise<Bindings> {
  const agentOf = new Map<string, string>();
  /** Those that were bound first come first. */
  const vmsOf = new Map<string, Set<string>>();

  function set(uuid: string, agent: string): void {
    vmsOf.get(agentOf.get(uuid) ?? "")?.delete(uuid);
    agentOf.set(uuid, agent);
    const vms = vmsOf.get(agent) ?? new Set();
    vmsOf.set(agent, vms.add(uuid));
  }

  async function forget(uuids: readonly string[]): Promise<void> {
    await unbindVms(state, uuids);
    for (const uuid of uuids) {
      vmsOf.get(agentOf.get(uuid) ?? "")?.delete(uuid);
      agentOf.delete(uuid);
    }
  }

  for (const { vm_uuid, agent } of await listBindings(state)) set(vm_uuid, agent);

  return {
    agentOf: (uuid) => agentOf.get(uuid),
    async claim(agent, uuids) {
      const unbound = uuids.filter((uuid) => !agentOf.has(uuid));
      if (unbound.length === 0) return;
      for (const row of await bindVms(state, agent, unbound)) set(row.vm_uuid, row.agent);
      const bound = vmsOf.get(agent) ?? new Set();
      if (bound.size <= max) return;
      const claimed = new Set(uuids);
      const old = [...bound].filter((uuid) => !claimed.has(uuid) && !isNeeded(uuid));
      await forget(old.slice(0, bound.size - max));
    },
    async move(uuid, agent) {
      if (!(await rebindVm(state, uuid, agent))) {
        throw notFound(
          `no agent has ever announced a VM ${uuid}: see 'cloudvmi admin vms' and 'cloudvmi admin agents'`,
        );
      }
      set(uuid, agent);
    },
    async release(agent) {
      const uuids = [...(vmsOf.get(agent) ?? [])];
      await forget(uuids);
      vmsOf.delete(agent);
      return uuids;
    },
    agents: () => [...vmsOf.keys()],
  };
}
