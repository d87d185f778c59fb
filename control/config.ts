import { readFileSync } from "node:fs";
import path from "node:path";
import { parse, type TomlTable, type TomlValue } from "smol-toml";
import { type CallLimits, defaultLimits } from "./api/calls.ts";
import { defaultMaxTokens } from "./auth/authenticator.ts";
import { parseAgentAddress, parseTlsAddress } from "./fleet/address.ts";
import type { ConfiguredAgent } from "./fleet/fleet.ts";
import { isName, nameRule } from "./problem.ts";
import { isRole, type Role, roles } from "./state/schema.ts";

/** A configuration that can't be used; the message is one line that names the file and the key. */
export class ConfigError extends Error {}

export interface ConfiguredUser {
  readonly name: string;
  readonly operator: boolean;
  readonly memberships: readonly { readonly project: string; readonly role: Role }[];
}

/**
 * Control's configuration. As TOML (paths relative to the file; every key but `state` may be left out):
 *
 * ```toml
 * listen = "tls://127.0.0.1:7443"      # the one public port; port 0: any free one
 * state = "/var/lib/cloudvmi/control"  # databases; own CA and certificate (ca.pem, server.pem); admin.token
 * policies = "/etc/cloudvmi/policies"  # own Cedar policies (*.cedar), added to those that come with CloudVMI
 *
 * [tls]                                # certificate of the public port; without it control makes its own
 * certificate = "server.pem"
 * key = "server.key"
 *
 * [agent_tls]                          # control's own certificate towards agents at tls:// addresses
 * ca = "ca.pem"
 * certificate = "control.pem"
 * key = "control.key"
 *
 * [limits]
 * timeout_seconds = 30                 # for calls that name no timeout
 * max_timeout_seconds = 300            # what a call may ask for at most
 * calls_per_user = 32                  # at once
 * tokens_per_user = 100                # valid at once
 * connections = 1024                   # of the public port, at once
 *
 * [[agent]]                            # more can be added while it runs (`cloudvmi admin`)
 * name = "host1"
 * address = "unix:/run/cloudvmi/agent.sock"   # or tls://host:7444
 *
 * [[project]]                          # made at start where they are missing; nothing is ever removed by this file
 * name = "shop"
 * description = "the web shop"
 *
 * [[user]]
 * name = "ann"
 * operator = false
 * [[user.membership]]                  # set at every start
 * project = "shop"
 * role = "analyst"                     # viewer, analyst, responder, owner
 * ```
 */
export interface ControlConfig {
  readonly listen: { readonly host: string; readonly port: number };
  readonly state: string;
  readonly policies?: string;
  readonly tls?: { readonly certificate: string; readonly key: string };
  readonly agentTls?: { readonly ca: string; readonly certificate: string; readonly key: string };
  readonly limits: CallLimits;
  /** Of the public port, at once. */
  readonly maxConnections: number;
  /** Of one user, valid at once. */
  readonly maxTokens: number;
  readonly agents: readonly ConfiguredAgent[];
  readonly projects: readonly { readonly name: string; readonly description: string }[];
  readonly users: readonly ConfiguredUser[];
}

const defaultConnections = 1024;

/** Reads and checks a configuration. Throws ConfigError. */
export function loadControlConfig(file: string): ControlConfig {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw new ConfigError(`${file}: can't be read: ${(error as Error).message}`);
  }
  try {
    return parseControlConfig(text, path.dirname(path.resolve(file)));
  } catch (error) {
    if (error instanceof ConfigError) throw new ConfigError(`${file}: ${error.message}`);
    throw error;
  }
}

/** `directory`: what relative paths start from. Throws ConfigError. */
export function parseControlConfig(text: string, directory: string): ControlConfig {
  let parsed: TomlTable;
  try {
    parsed = parse(text);
  } catch (error) {
    throw new ConfigError(`not TOML: ${(error as Error).message.replace(/\s+/g, " ").trim()}`);
  }
  const top = reader(parsed, "");
  const file = (from: Reader, key: string) => path.resolve(directory, from.string(key));
  const listen = top.string("listen", "tls://127.0.0.1:7443");
  const endpoint = parseTlsAddress(listen);
  if (endpoint === undefined) throw new ConfigError(`listen = ${JSON.stringify(listen)}: use tls://host:port`);
  const tls = top.table("tls");
  const agentTls = top.table("agent_tls");
  const limits = top.table("limits");
  const config: ControlConfig = {
    listen: endpoint,
    state: file(top, "state"),
    ...(top.has("policies") ? { policies: file(top, "policies") } : {}),
    ...(tls === undefined ? {} : { tls: { certificate: file(tls, "certificate"), key: file(tls, "key") } }),
    ...(agentTls === undefined
      ? {}
      : {
          agentTls: {
            ca: file(agentTls, "ca"),
            certificate: file(agentTls, "certificate"),
            key: file(agentTls, "key"),
          },
        }),
    limits:
      limits === undefined
        ? defaultLimits
        : {
            defaultTimeoutMs: limits.number("timeout_seconds", defaultLimits.defaultTimeoutMs / 1000) * 1000,
            maxTimeoutMs: limits.number("max_timeout_seconds", defaultLimits.maxTimeoutMs / 1000) * 1000,
            maxConcurrent: limits.number("calls_per_user", defaultLimits.maxConcurrent),
          },
    maxConnections: limits?.number("connections", defaultConnections) ?? defaultConnections,
    maxTokens: limits?.number("tokens_per_user", defaultMaxTokens) ?? defaultMaxTokens,
    agents: unique(top.tables("agent").map(readAgent), "agent"),
    projects: unique(top.tables("project").map(readProject), "project"),
    users: unique(top.tables("user").map(readUser), "user"),
  };
  for (const each of [top, tls, agentTls, limits]) each?.finish();
  return config;
}

function readAgent(from: Reader): ConfiguredAgent {
  const name = from.name();
  const address = from.string("address");
  if (parseAgentAddress(address) === undefined) {
    throw new ConfigError(`agent ${name}: address = ${JSON.stringify(address)}: use unix:/path or tls://host:port`);
  }
  from.finish();
  return { name, address };
}

function readProject(from: Reader): { name: string; description: string } {
  const project = { name: from.name(), description: from.string("description", "") };
  from.finish();
  return project;
}

function readUser(from: Reader): ConfiguredUser {
  const name = from.name();
  const memberships = from.tables("membership").map((each) => {
    const role = each.string("role");
    if (!isRole(role)) throw new ConfigError(`user ${name}: role = ${JSON.stringify(role)}: use ${roles.join(", ")}`);
    const membership = { project: each.string("project"), role };
    each.finish();
    return membership;
  });
  const user = { name, operator: from.boolean("operator", false), memberships };
  from.finish();
  return user;
}

function unique<T extends { readonly name: string }>(items: T[], what: string): T[] {
  const seen = new Set<string>();
  for (const { name } of items) {
    if (seen.has(name)) throw new ConfigError(`there are two [[${what}]] named ${name}: remove one`);
    seen.add(name);
  }
  return items;
}

/** Takes keys out of a table; what is left at `finish` is unknown. */
interface Reader {
  has(key: string): boolean;
  /** Without a fallback the key must be there. */
  string(key: string, fallback?: string): string;
  boolean(key: string, fallback: boolean): boolean;
  /** A whole number from 1. */
  number(key: string, fallback: number): number;
  name(): string;
  table(key: string): Reader | undefined;
  tables(key: string): Reader[];
  finish(): void;
}

function reader(values: TomlTable, prefix: string): Reader {
  const known = new Set<string>();
  const place = (key: string) => `${prefix}${key}`;

  function take(key: string): TomlValue | undefined {
    known.add(key);
    return values[key];
  }

  function typed<T>(
    key: string,
    fallback: T | undefined,
    wanted: string,
    check: (value: TomlValue) => value is T & TomlValue,
  ): T {
    const value = take(key);
    if (value === undefined) {
      if (fallback !== undefined) return fallback;
      throw new ConfigError(`${place(key)} is missing: give ${wanted}`);
    }
    if (!check(value)) throw new ConfigError(`${place(key)} must be ${wanted}`);
    return value;
  }

  const isTable = (value: TomlValue | undefined): value is TomlTable =>
    typeof value === "object" && !Array.isArray(value) && !(value instanceof Date);

  return {
    has: (key) => take(key) !== undefined,
    string: (key, fallback) =>
      typed(
        key,
        fallback,
        "a text that is not empty",
        (value): value is string => typeof value === "string" && value !== "",
      ),
    boolean: (key, fallback) =>
      typed(key, fallback, "true or false", (value): value is boolean => typeof value === "boolean"),
    number: (key, fallback) =>
      typed(
        key,
        fallback,
        "a whole number from 1",
        (value): value is number => typeof value === "number" && Number.isInteger(value) && value >= 1,
      ),
    name() {
      const name = this.string("name");
      if (!isName(name)) throw new ConfigError(`${place("name")} = ${JSON.stringify(name)} is no name: ${nameRule}`);
      return name;
    },
    table(key) {
      const value = take(key);
      if (value === undefined) return undefined;
      if (!isTable(value)) throw new ConfigError(`${place(key)} must be a table: write [${place(key)}]`);
      return reader(value, `${place(key)}.`);
    },
    tables(key) {
      const value = take(key);
      if (value === undefined) return [];
      if (!Array.isArray(value))
        throw new ConfigError(`${place(key)} must be a list of tables: write [[${place(key)}]]`);
      return value.map((each) => {
        if (!isTable(each)) throw new ConfigError(`${place(key)} must be a list of tables: write [[${place(key)}]]`);
        return reader(each, `${place(key)}.`);
      });
    },
    finish() {
      const unknown = Object.keys(values).find((key) => !known.has(key));
      if (unknown === undefined) return;
      throw new ConfigError(`unknown key ${place(unknown)}: known here are ${[...known].sort().join(", ")}`);
    },
  };
}
