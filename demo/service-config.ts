// The configuration files of agents and control, as an operator would write them.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "smol-toml";

/** Paths of PEM files. */
export interface CertificateFiles {
  ca: string;
  certificate: string;
  key: string;
}

export interface AgentChoices {
  directory: string;
  name: string;
  listen: string;
  tls: CertificateFiles;
  vms: { uuid: string; qmp: string; project: string; labels: Record<string, string> }[];
}

/** Writes an agent's configuration: only the VMs named, since the other hosts' run on this machine too. Returns the file. */
export function agentConfig({ directory, name, listen, tls, vms }: AgentChoices): string {
  return write(directory, name, {
    name,
    listen,
    state: join(directory, `${name}-state`),
    tls,
    discovery: { processes: false },
    vm: vms,
  });
}

export interface ControlChoices {
  directory: string;
  port: number;
  state: string;
  agentTls: CertificateFiles;
  agents: { name: string; address: string }[];
}

/** Writes control's configuration. Returns the file. */
export function controlConfig({ directory, port, state, agentTls, agents }: ControlChoices): string {
  return write(directory, "control", {
    listen: `tls://127.0.0.1:${port}`,
    state,
    agent_tls: agentTls,
    agent: agents,
  });
}

function write(directory: string, name: string, config: object): string {
  const path = join(directory, `${name}.toml`);
  writeFileSync(path, stringify(config), { mode: 0o600 });
  return path;
}
