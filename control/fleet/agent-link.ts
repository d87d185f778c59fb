import { setTimeout as sleep } from "node:timers/promises";
import { fromBinary } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import {
  AgentService,
  type DescribeResponse,
  DescribeResponseSchema,
  WatchVmsResponseSchema,
} from "../../proto/gen/cloudvmi/agent/v1/agent_pb.ts";
import type { Vm } from "../../proto/gen/cloudvmi/v1/vm_pb.ts";
import { createWireTransport, type WireTransport } from "../../wire/index.ts";
import type { Log } from "../log.ts";
import { type AgentTls, dialAgent, parseAgentAddress } from "./address.ts";
import { admitVms, checkMessage, createPace } from "./announcements.ts";
import type { Bindings } from "./bindings.ts";
import { idText, type Registry, usableUuid } from "./registry.ts";

/** Control's standing connection to one agent. */
export interface AgentLink {
  readonly name: string;
  readonly address: string;
  /** From the configuration, which only the operator's editor changes; others come from the database. */
  readonly configured: boolean;
  /** While it is connected and has listed its VMs. */
  readonly transport: WireTransport | undefined;
  /** What it said of itself when last connected. */
  readonly description: DescribeResponse | undefined;
  /** Why it isn't reachable; empty while it is. */
  readonly problem: string;
  /** What it has said too much, and is not listened to; empty when nothing is. */
  readonly leftOut: string;
  /** Settles when the first attempt has either succeeded or failed, or the link was closed. */
  readonly tried: Promise<void>;
  close(): Promise<void>;
}

export interface AgentLinkOptions {
  readonly name: string;
  readonly address: string;
  readonly configured: boolean;
  readonly tls: AgentTls | undefined;
  readonly registry: Registry;
  readonly bindings: Bindings;
  readonly log: Log;
}

const firstRetryMs = 200;
const lastRetryMs = 5_000;
const describeTimeoutMs = 5_000;
const keepaliveMs = 3_000;

/** Connects, follows the agent's VMs into the registry, and connects again for as long as it isn't closed. */
export function linkAgent({ name, address, configured, tls, registry, bindings, log }: AgentLinkOptions): AgentLink {
  const ended = new AbortController();
  let transport: WireTransport | undefined;
  let description: DescribeResponse | undefined;
  let problem = "not connected yet";
  let leftOut = "";
  let connectedMs = Number.POSITIVE_INFINITY;
  // Of the agent, not of its connection: it must not gain by connecting anew.
  const pace = createPace();
  const tried = Promise.withResolvers<void>();

  /** Leaves out what is too much. Those that no agent has are this one's from now on, on the disk before anyone can ask them. */
  async function admit(present: readonly Vm[], known: Parameters<typeof admitVms>[1]): Promise<readonly Vm[]> {
    const admitted = admitVms(present, known);
    if (leftOut === "" && admitted.problem !== "") {
      log.warn("VMs left out", { agent: name, problem: admitted.problem });
    }
    leftOut ||= admitted.problem;
    await bindings.claim(
      name,
      admitted.vms.map(usableUuid).filter((uuid) => uuid !== undefined),
    );
    return admitted.vms;
  }

  /** Returns, or throws, when the connection is over. */
  async function follow(): Promise<void> {
    const target = parseAgentAddress(address);
    if (target === undefined) throw new Error(`${address} is no address: use unix:/path or tls://host:port`);
    const wire = createWireTransport({
      connect: () => dialAgent(target, tls, ended.signal),
      client: "control",
      keepaliveMs,
    });
    try {
      const described = await wire.unaryEncoded(
        AgentService.method.describe,
        {},
        { signal: ended.signal, timeoutMs: describeTimeoutMs },
      );
      checkMessage(described.length);
      description = fromBinary(DescribeResponseSchema, described);
      // What it has is known once all of it is listed; what came and went meanwhile it has never had.
      const listing = new Map<string, Vm>();
      for await (const bytes of wire.streamEncoded(AgentService.method.watchVms, {}, { signal: ended.signal })) {
        checkMessage(bytes.length);
        const { present, gone, synced } = fromBinary(WatchVmsResponseSchema, bytes);
        const changes = present.length + gone.length;
        checkMessage(bytes.length, changes);
        await pace.take(1 + changes, ended.signal);
        if (transport !== undefined) {
          registry.apply(name, await admit(present, registry.saidBy(name)), gone);
          continue;
        }
        checkMessage(bytes.length, listing.size + changes);
        for (const vm of present) listing.set(idText(vm.id), vm);
        for (const id of gone) listing.delete(idText(id));
        if (!synced) continue;
        leftOut = "";
        const all = await admit([...listing.values()], new Set());
        listing.clear();
        registry.list(name, all);
        transport = wire;
        connectedMs = performance.now();
        problem = "";
        registry.setReachable(name, true);
        tried.resolve();
        log.info("agent connected", { agent: name, version: description.version, vms: all.length });
      }
      throw new Error("the agent ended the connection");
    } finally {
      transport = undefined;
      await wire.close();
    }
  }

  async function run(): Promise<void> {
    let retryMs = firstRetryMs;
    while (!ended.signal.aborted) {
      try {
        await follow();
      } catch (error) {
        if (ended.signal.aborted) return;
        // One that has been connected for a moment only is no sooner asked again than one that was not.
        if (performance.now() - connectedMs >= lastRetryMs) retryMs = firstRetryMs;
        connectedMs = Number.POSITIVE_INFINITY;
        const lost =
          description === undefined && address.startsWith("tls:") && /connection was lost/.test(reasonOf(error));
        // With TLS 1.3 a server checks its client's certificate after the client has taken itself for connected.
        const hint = lost ? ": the agent may have refused control's certificate: see its log" : "";
        const reason = `${reasonOf(error)}${hint}`;
        if (reason !== problem) log.warn("agent unreachable", { agent: name, address, problem: reason });
        problem = reason;
        registry.setReachable(name, false);
        tried.resolve();
      }
      // Not all at once, when a host comes back that many replicas wait for.
      await sleep(retryMs * (0.75 + Math.random() / 2), undefined, { signal: ended.signal }).catch(() => {});
      retryMs = Math.min(retryMs * 2, lastRetryMs);
    }
  }

  const finished = run();
  return {
    name,
    address,
    configured,
    get transport() {
      return transport;
    },
    get description() {
      return description;
    },
    get problem() {
      return problem;
    },
    get leftOut() {
      return leftOut;
    },
    tried: tried.promise,
    async close() {
      ended.abort();
      tried.resolve();
      await finished;
      registry.removeAgent(name);
    },
  };
}

function reasonOf(error: unknown): string {
  const text = error instanceof ConnectError ? error.rawMessage : (error as Error).message;
  return text.replace(/\s+/g, " ");
}
