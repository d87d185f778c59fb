/** What an agent's operator tells it, in TOML. docs/operator-guide.md describes every key. */
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { parse, TomlError } from "smol-toml";
import { ConfigError, TableReader } from "./config-reader.ts";
import { type Layer, layerNames } from "./sandbox/layers.ts";

export type ListenAddress =
  | { readonly kind: "unix"; readonly path: string }
  | { readonly kind: "tls"; readonly host: string; readonly port: number };

/** What the operator says of one VM. At least one of the first three is there. */
export interface VmEntry {
  readonly uuid: string | undefined;
  readonly name: string | undefined;
  /** A monitor socket to watch, whether or not its process is found by itself. */
  readonly qmp: string | undefined;
  readonly project: string;
  readonly labels: Readonly<Record<string, string>>;
  /** A file with the types of its kernel, in place of the kernel's own. */
  readonly types: string | undefined;
}

export interface AgentConfig {
  /** Of the host, as the service shows it. */
  readonly name: string;
  readonly listen: ListenAddress;
  /** A folder for the profile cache and the leases. */
  readonly state: string;
  /** Files in PEM; there if and only if `listen` is TLS. */
  readonly tls: { readonly ca: string; readonly certificate: string; readonly key: string } | undefined;
  readonly sandbox: { readonly allowMissing: readonly Layer[] };
  readonly discovery: { readonly processes: boolean };
  /** Folder with files of types for kernels that carry none, named after their build ids. */
  readonly types: { readonly folder: string | undefined };
  readonly vms: readonly VmEntry[];
}

/** @throws ConfigError */
export function loadAgentConfig(file: string): AgentConfig {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw new ConfigError(`${file}: can't be read: ${error instanceof Error ? error.message : String(error)}`);
  }
  return parseAgentConfig(text, file);
}

/** @param source the name of the text in messages. @throws ConfigError */
export function parseAgentConfig(text: string, source: string): AgentConfig {
  let root: TableReader;
  try {
    root = new TableReader(parse(text), source);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    throw new ConfigError(`${source}:${error.line}:${error.column}: not TOML: ${error.message.split("\n")[0]}`);
  }
  const listen = parseAddress(root, root.string("listen"));
  const tls = readTls(root);
  const sandbox = root.table("sandbox");
  const discovery = root.table("discovery");
  const types = root.table("types");
  const config: AgentConfig = {
    name: root.optionalString("name") ?? hostname(),
    listen,
    state: root.string("state"),
    tls,
    sandbox: { allowMissing: sandbox?.words("allow_missing", layerNames) ?? [] },
    discovery: { processes: discovery?.boolean("processes", true) ?? true },
    types: { folder: types?.optionalString("folder") },
    vms: root.tables("vm").map(readVm),
  };
  for (const table of [sandbox, discovery, types, root]) table?.end();
  if (listen.kind === "tls" && !tls)
    throw root.problem("listen is tls://, which needs [tls] with ca, certificate and key");
  if (listen.kind === "unix" && tls)
    throw root.problem("[tls] has no use with a unix socket: remove it, or listen on tls://");
  return config;
}

function readTls(root: TableReader): AgentConfig["tls"] {
  const table = root.table("tls");
  if (!table) return undefined;
  const tls = { ca: table.string("ca"), certificate: table.string("certificate"), key: table.string("key") };
  table.end();
  return tls;
}

const uuidPattern = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

function readVm(table: TableReader): VmEntry {
  const entry: VmEntry = {
    uuid: table.optionalString("uuid")?.toLowerCase(),
    name: table.optionalString("name"),
    qmp: table.optionalString("qmp"),
    project: table.optionalString("project") ?? "",
    labels: table.strings("labels"),
    types: table.optionalString("types"),
  };
  table.end();
  if (entry.uuid !== undefined && !uuidPattern.test(entry.uuid))
    throw table.problem(`uuid "${entry.uuid}" is not a UUID`);
  if (!entry.uuid && !entry.name && !entry.qmp) throw table.problem("needs uuid, name or qmp to say which VM is meant");
  return entry;
}

function parseAddress(root: TableReader, text: string): ListenAddress {
  if (text.startsWith("unix:/")) return { kind: "unix", path: text.slice("unix:".length) };
  const match = /^tls:\/\/(\[[0-9a-f:]+\]|[^:/]+):(\d{1,5})$/i.exec(text);
  const port = Number(match?.[2]);
  if (match && port <= 65535) return { kind: "tls", host: match[1]!.replace(/^\[|\]$/g, ""), port };
  throw root.problem(`listen must be unix:/path or tls://host:port, not "${text}"`);
}
