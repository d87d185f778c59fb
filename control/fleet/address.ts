import { readFileSync } from "node:fs";
import net from "node:net";
import type { Duplex } from "node:stream";
import tls from "node:tls";
import { reusedReads, SESSION_PROTOCOL } from "../../wire/index.ts";

/** Where an agent listens. */
export type AgentAddress =
  | { readonly kind: "unix"; readonly path: string }
  | { readonly kind: "tls"; readonly host: string; readonly port: number };

/** `unix:/path` or `tls://host:port`; undefined for anything else. */
export function parseAgentAddress(text: string): AgentAddress | undefined {
  if (text.startsWith("unix:/")) return { kind: "unix", path: text.slice("unix:".length) };
  const endpoint = parseTlsAddress(text);
  return endpoint === undefined || endpoint.port === 0 ? undefined : { kind: "tls", ...endpoint };
}

/** `tls://host:port`, IPv6 in brackets; port 0 is for listening on any free one. */
export function parseTlsAddress(text: string): { host: string; port: number } | undefined {
  const match = /^tls:\/\/(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})$/.exec(text);
  if (match === null) return undefined;
  const port = Number(match[3]);
  return port > 65535 ? undefined : { host: (match[1] ?? match[2])!, port };
}

/** PEM of the files that prove control to agents, and agents to control. */
export interface AgentTls {
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
}

export function readAgentTls(files: { ca: string; certificate: string; key: string }): AgentTls {
  return {
    ca: readFileSync(files.ca, "utf8"),
    certificate: readFileSync(files.certificate, "utf8"),
    key: readFileSync(files.key, "utf8"),
  };
}

const dialTimeoutMs = 5_000;

/** Connects; for TLS, both ends have been proved when it resolves. Rejects with a one-line error. */
export function dialAgent(address: AgentAddress, agentTls: AgentTls | undefined, signal: AbortSignal): Promise<Duplex> {
  if (address.kind === "tls" && agentTls === undefined) {
    return Promise.reject(new Error("control has no certificate towards agents: set [agent_tls] in its configuration"));
  }
  const reads = reusedReads();
  const socket =
    address.kind === "unix"
      ? net.connect({ path: address.path, ...reads.options })
      : tls.connect({
          host: address.host,
          port: address.port,
          ...reads.options,
          ...(net.isIP(address.host) === 0 ? { servername: address.host } : {}),
          ca: agentTls!.ca,
          cert: agentTls!.certificate,
          key: agentTls!.key,
          minVersion: "TLSv1.3",
          ALPNProtocols: [SESSION_PROTOCOL],
        });
  reads.bind(socket);
  return new Promise((resolve, reject) => {
    const giveUp = () => socket.destroy(new Error("it does not answer"));
    const timer = setTimeout(giveUp, dialTimeoutMs);
    signal.addEventListener("abort", giveUp);
    const settle = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", giveUp);
    };
    socket.once(address.kind === "unix" ? "connect" : "secureConnect", () => {
      settle();
      socket.removeListener("error", reject);
      resolve(socket);
    });
    socket.once("error", (error) => {
      settle();
      reject(error);
    });
  });
}
