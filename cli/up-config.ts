import { mkdir, readFile, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import type { Layer } from "../agent/index.ts";
import { usageError } from "./failure.ts";

/** What `up` can be told about its two configurations. */
export interface UpSettings {
  listen?: string;
  name?: string;
  allowMissing?: Layer[];
}

export interface UpFiles {
  agent: string;
  control: string;
  /** The first operator's token, once control has started. */
  token: string;
  /** PEM of control's own authority, likewise. */
  ca: string;
}

/** Linux keeps the path of a unix socket in 108 bytes, the last of them zero. */
const maxSocketPath = 107;

/** Where the agent of `up` listens. */
export const agentSocket = (state: string) => join(state, "agent.sock");

/**
 * The folder and configurations of `up`. The files are written once and then the operator's: later only a setting that
 * is given replaces its own line, so that a first attempt with a port in use can be followed by one with another.
 */
export async function prepare(state: string, settings: UpSettings): Promise<UpFiles> {
  const files = {
    agent: join(state, "agent.toml"),
    control: join(state, "control.toml"),
    token: join(state, "control", "admin.token"),
    ca: join(state, "control", "ca.pem"),
  };
  const socket = agentSocket(state);
  if (Buffer.byteLength(socket) > maxSocketPath) {
    throw usageError(`${state} is too long a path for a socket: choose a shorter one with --state`);
  }
  const { listen, name, allowMissing } = settings;
  if (listen !== undefined && !/^(?:\[[\da-fA-F:]+\]|[\w.-]+):\d{1,5}$/.test(listen)) {
    throw usageError(`--listen ${listen}: write host:port, such as 127.0.0.1:7443`);
  }
  await mkdir(state, { recursive: true, mode: 0o700 });
  const host = name ?? hostname().split(".")[0]!;
  const agent = await changed(files.agent, agentConfig(host, socket, state), {
    name: name && quote(name),
    allow_missing: allowMissing && quoteAll(allowMissing),
  });
  // The name stands in both: changed in one alone, control would ask another agent than there is.
  const control = await changed(files.control, controlConfig(host, socket, state), {
    name: name && quote(name),
    listen: listen && quote(`tls://${listen}`),
  });
  // Both can be changed: only now.
  await writeFile(files.agent, agent, { mode: 0o600 });
  await writeFile(files.control, control, { mode: 0o600 });
  return files;
}

/** The file, or its initial text, with settings replaced in their lines. */
async function changed(path: string, initial: string, settings: Record<string, string | undefined>): Promise<string> {
  let text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
    return initial;
  });
  for (const [key, value] of Object.entries(settings)) {
    if (value === undefined) continue;
    const lines = new RegExp(`^${key} = .*$`, "gm");
    // Several: the operator has added hosts or VMs, and only the operator knows which is meant.
    if (text.match(lines)?.length !== 1) throw usageError(`${path} is not as \`up\` wrote it: change ${key} there`);
    text = text.replace(lines, () => `${key} = ${value}`);
  }
  return text;
}

/** A TOML string: what JSON escapes, TOML's basic strings escape alike. */
const quote = (text: string) => JSON.stringify(text);
const quoteAll = (texts: readonly string[]) => `[${texts.map(quote).join(", ")}]`;

function agentConfig(name: string, socket: string, state: string): string {
  return `# Written by \`cloudvmi up\`; yours to change (docs/operator-guide.md).
name = ${quote(name)}
listen = ${quote(`unix:${socket}`)}
state = ${quote(join(state, "agent"))}

[sandbox]
# Layers of the inspectors' sandbox that this host may lack: "namespaces", "uid", "seccomp".
allow_missing = []

[discovery]
processes = true

# Who owns which VM can be said here, or with \`cloudvmi admin owner set\`:
# [[vm]]
# uuid = "…"
# project = "shop"
`;
}

function controlConfig(name: string, socket: string, state: string): string {
  return `# Written by \`cloudvmi up\`; yours to change (docs/operator-guide.md).
listen = "tls://127.0.0.1:7443"
state = ${quote(join(state, "control"))}

[[agent]]
name = ${quote(name)}
address = ${quote(`unix:${socket}`)}
`;
}
