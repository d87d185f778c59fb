import { setTimeout as sleep } from "node:timers/promises";
import type { TableSpec } from "../../proto/gen/cloudvmi/v1/guest_pb.ts";
import type { WireTransport } from "../../wire/index.ts";
import type { Log } from "../log.ts";
import { checkName, invalid, notFound } from "../problem.ts";
import { deleteAgent, insertAgent, listAgentRows } from "../state/agents.ts";
import { listOwners, listProjects } from "../state/projects.ts";
import type { State } from "../state/schema.ts";
import { type AgentTls, parseAgentAddress } from "./address.ts";
import { type AgentLink, linkAgent } from "./agent-link.ts";
import { openBindings } from "./bindings.ts";
import { createRegistry, type RefusedClaim, type Registry } from "./registry.ts";

export interface ConfiguredAgent {
  readonly name: string;
  readonly address: string;
}

/** Every host, and every VM on them. */
export interface Fleet {
  readonly registry: Registry;
  links(): readonly AgentLink[];
  /** Undefined while the agent can't be reached. */
  transportOf(agent: string): WireTransport | undefined;
  /** The tables that an agent offers; without a name, those that any connected agent does. */
  tables(agent?: string): readonly TableSpec[];
  /** Throws InvalidArgument for a bad name or address, or a taken name. */
  addAgent(name: string, address: string): Promise<AgentLink>;
  /** Throws NotFound; InvalidArgument for one of the configuration. */
  removeAgent(name: string): Promise<void>;
  /** Gives a VM to another agent. Throws NotFound for an unknown agent or VM. */
  moveVm(uuid: string, agent: string): Promise<void>;
  /** Must be called when projects or owners have changed. */
  reloadOwnership(): Promise<void>;
  close(): Promise<void>;
}

export interface FleetOptions {
  readonly state: State;
  readonly agents: readonly ConfiguredAgent[];
  readonly tls: AgentTls | undefined;
  readonly log: Log;
  /** What policy sees of a VM has changed. */
  onChange(uuid: string): void;
  /** An agent announces what another has: told once, and logged already. */
  onRefused(claim: RefusedClaim): void;
}

/** How long whoever adds an agent waits to hear whether it can be reached. */
const firstAttemptMs = 2_000;

export async function openFleet({ state, agents, tls, log, onChange, onRefused }: FleetOptions): Promise<Fleet> {
  let owners: ReadonlyMap<string, string> = new Map();
  const bindings = await openBindings({
    state,
    isNeeded: (uuid) => owners.has(uuid) || registry.get(uuid) !== undefined,
  });
  const registry = createRegistry({
    agentOf: bindings.agentOf,
    onChange,
    onRefused(claim) {
      const { uuid, agent, holder } = claim;
      log.warn("VM refused", { vm: uuid, agent, problem: `agent ${holder} has it` });
      onRefused(claim);
    },
  });
  const links = new Map<string, AgentLink>();

  function link(name: string, address: string, configured: boolean): AgentLink {
    const made = linkAgent({ name, address, configured, tls, registry, bindings, log });
    links.set(name, made);
    return made;
  }

  async function reloadOwnership(): Promise<void> {
    const [projects, rows] = await Promise.all([listProjects(state), listOwners(state)]);
    owners = new Map(rows.map(({ vm_uuid, project }) => [vm_uuid, project]));
    registry.setOwnership({ projects: new Set(projects.map(({ name }) => name)), owners });
  }

  /** The agent is no more; a VM that another announces already is that one's. */
  async function release(agent: string): Promise<void> {
    for (const uuid of await bindings.release(agent)) {
      const [next] = registry.claimants(uuid);
      if (next !== undefined) {
        await bindings.claim(next, [uuid]);
        log.warn("VM passed on", { vm: uuid, from: agent, to: next });
      }
      registry.refresh(uuid);
    }
  }

  await reloadOwnership();
  const rows = await listAgentRows(state);
  const known = new Set([...agents, ...rows].map(({ name }) => name));
  for (const agent of bindings.agents().filter((each) => !known.has(each))) {
    log.warn("agent forgotten", {
      agent,
      problem: "the configuration has it no more: whoever announces its VMs has them",
    });
    await release(agent);
  }
  for (const { name, address } of agents) link(name, address, true);
  for (const { name, address } of rows) {
    if (links.has(name)) log.warn("agent ignored", { agent: name, problem: "the configuration has one of that name" });
    else link(name, address, false);
  }

  return {
    registry,
    links: () => [...links.values()],
    transportOf: (agent) => links.get(agent)?.transport,
    tables(agent) {
      if (agent !== undefined) return links.get(agent)?.description?.tables ?? [];
      const tables = new Map<string, TableSpec>();
      for (const each of links.values()) {
        if (each.transport === undefined) continue;
        for (const table of each.description?.tables ?? []) if (!tables.has(table.name)) tables.set(table.name, table);
      }
      return [...tables.values()];
    },
    async addAgent(name, address) {
      checkName("agent", name);
      if (parseAgentAddress(address) === undefined) {
        throw invalid(`${JSON.stringify(address)} is no address of an agent: use unix:/path or tls://host:port`);
      }
      if (links.has(name)) throw invalid(`agent ${name} exists already: remove it first, or choose another name`);
      await insertAgent(state, name, address);
      const added = link(name, address, false);
      await Promise.race([added.tried, sleep(firstAttemptMs, undefined, { ref: false })]);
      return added;
    },
    async removeAgent(name) {
      const found = links.get(name);
      if (found === undefined) throw notFound(`no agent ${JSON.stringify(name)}: list the agents to see their names`);
      if (found.configured) throw invalid(`agent ${name} is in the configuration: remove it there and restart`);
      await deleteAgent(state, name);
      links.delete(name);
      await found.close();
      await release(name);
    },
    async moveVm(uuid, agent) {
      if (!links.has(agent)) throw notFound(`no agent ${JSON.stringify(agent)}: list the agents to see their names`);
      await bindings.move(uuid, agent);
      registry.refresh(uuid);
    },
    reloadOwnership,
    async close() {
      await Promise.all([...links.values()].map((each) => each.close()));
    },
  };
}
