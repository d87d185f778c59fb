// A whole service on this machine: guests on several hosts, an agent for each host, control, users that are logged in. Agents
// and control are processes of their own that know each other by certificates only, as on machines of their own. The demo
// shows it, the tests in tests/service question it.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createAuthority, issueCertificate, writeKeyPair } from "../control/index.ts";
import { type GuestSpec, type LabGuest, launchGuest } from "../lab/index.ts";
import { type CloudVmi, connect } from "../sdk/index.ts";
import { agentConfig, type CertificateFiles, controlConfig } from "./service-config.ts";
import { freePort, type ServiceProcess, startServiceProcess } from "./service-process.ts";

const root = resolve(import.meta.dirname, "..");
/** The command line, as a user has it. */
export const program = join(root, "cloudvmi");

export interface ClusterGuest {
  guest: GuestSpec;
  project: string;
  labels?: Record<string, string>;
}

export interface ClusterSpec {
  /** Host → VM's name → what it is and whose. */
  hosts: Record<string, Record<string, ClusterGuest>>;
  /** User → the project and role. */
  users: Record<string, { project: string; role: string }>;
}

export interface CliResult {
  code: number;
  stdout: string;
  stderr: string;
}

export interface Cluster extends AsyncDisposable {
  /** Everything of the cluster that is on disk. */
  readonly directory: string;
  readonly url: string;
  /** The file with the certificate of control's authority. */
  readonly caFile: string;
  readonly guests: ReadonlyMap<string, LabGuest>;
  /** The processes "control" and "agent HOST". */
  readonly processes: ReadonlyMap<string, ServiceProcess>;
  /** A connection of this user's, or with this token. */
  connect(as: string | { token: string }): CloudVmi;
  token(user: string): string;
  /** What makes the CLI of this process's children act as the user. */
  environment(user: string): Record<string, string>;
  /** Runs the CLI as the user. */
  cli(user: string, args: readonly string[], env?: NodeJS.ProcessEnv): Promise<CliResult>;
  /** Ends a process of the service and starts it again with the same configuration. */
  restart(process: string): Promise<void>;
  /** Ends a guest's QEMU and boots it again: the same VM, another incarnation. */
  reboot(guest: string): Promise<LabGuest>;
}

type Progress = (line: string) => void;

/**
 * Boots everything and returns when every VM is announced. What has been started is ended again when a part fails or the
 * signal is aborted.
 */
export async function startCluster(
  spec: ClusterSpec,
  progress: Progress = () => {},
  signal: AbortSignal = new AbortController().signal,
): Promise<Cluster> {
  await using stack = new AsyncDisposableStack();
  const directory = mkdtempSync(join(tmpdir(), "cloudvmi-cluster-"));
  stack.defer(() => rmSync(directory, { recursive: true, force: true }));
  const guests = new Map<string, LabGuest>();
  stack.defer(() => closeAll(guests.values()));
  const processes = new Map<string, ServiceProcess>();
  stack.defer(() => closeAll(processes.values()));

  /** Where the agent's configuration says that the VM's monitor is, whichever QEMU runs it. */
  const monitor = (name: string) => join(directory, `${name}.qmp`);
  const boot = async (name: string, guest: GuestSpec) => {
    signal.throwIfAborted();
    const launched = await launchGuest({ ...guest, name }, progress);
    guests.set(name, launched);
    rmSync(monitor(name), { force: true });
    symlinkSync(launched.qmp, monitor(name));
    await unlessAborted(launched.ready(progress), signal);
    return launched;
  };
  const booting = Object.entries(spec.hosts).flatMap(([host, vms]) =>
    Object.entries(vms).map(async ([name, { project, guest }]) => {
      progress(`booting ${name} of ${project} on ${host}: Linux ${guest.kernel} …`);
      await boot(name, guest);
      progress(`${name} is up`);
    }),
  );
  await Promise.all(booting);

  const starters = new Map<string, () => Promise<ServiceProcess>>();
  const launch = async (name: string, subcommand: string, config: string, port: number) => {
    signal.throwIfAborted();
    progress(`starting ${name} …`);
    const logFile = `${config}.log`;
    const command = [program, subcommand, "--config", config];
    starters.set(name, () => startServiceProcess({ name, command, cwd: directory, logFile, port }));
    processes.set(name, await starters.get(name)!());
  };
  const certify = await hostsAuthority(join(directory, "certificates"));
  const agents: { name: string; address: string }[] = [];
  for (const [name, vms] of Object.entries(spec.hosts)) {
    const listen = `tls://127.0.0.1:${await freePort()}`;
    const owned = Object.entries(vms).map(([vm, { project, labels = {} }]) => {
      return { uuid: guests.get(vm)!.uuid, qmp: monitor(vm), project, labels };
    });
    const config = agentConfig({ directory, name, listen, tls: await certify(name, "server"), vms: owned });
    agents.push({ name, address: listen });
    await launch(`agent ${name}`, "agent", config, Number(new URL(listen).port));
  }
  const port = await freePort();
  const state = join(directory, "control");
  const agentTls = await certify("control", "client");
  await launch("control", "control", controlConfig({ directory, port, state, agentTls, agents }), port);

  const url = `https://127.0.0.1:${port}`;
  const caFile = join(state, "ca.pem");
  const tokens = new Map([["operator", readFileSync(join(state, "admin.token"), "utf8").trim()]]);
  const environment = (user: string) => ({ XDG_CONFIG_HOME: join(directory, "config"), CLOUDVMI_CONTEXT: user });
  const parts: Omit<Cluster, typeof Symbol.asyncDispose> = {
    directory,
    url,
    caFile,
    guests,
    processes,
    environment,
    token: (user) => known(tokens, user),
    connect: (as) => {
      const token = typeof as === "string" ? known(tokens, as) : as.token;
      return connect({ url, ca: readFileSync(caFile, "utf8"), token });
    },
    cli: (user, args, env) => runCli(args, { ...environment(user), ...env }),
    restart: async (name) => {
      await known(processes, name).stop();
      processes.set(name, await known(starters, name)());
    },
    reboot: async (name) => {
      const before = known(guests, name);
      await before.close();
      return boot(name, before.spec);
    },
  };
  signal.throwIfAborted();
  await createUsers(parts, spec, tokens, progress);
  await announced(parts, progress);
  const owned = stack.move();
  return { ...parts, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** The result of the work, or the signal's reason as soon as it is aborted: the work is then ended by closing what does it. */
async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const abort = () => reject(signal.reason);
  signal.addEventListener("abort", abort);
  if (signal.aborted) abort();
  try {
    return await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/** An authority for agents and control to know each other by. Returns what makes a certificate of it for one of them. */
async function hostsAuthority(folder: string) {
  const authority = await createAuthority("CloudVMI demo hosts");
  const { certificate: ca } = writeKeyPair(folder, "ca", authority);
  return async (name: string, usage: "server" | "client"): Promise<CertificateFiles> => {
    const pair = await issueCertificate(authority, { name, usage, hosts: ["127.0.0.1"] });
    return { ca, ...writeKeyPair(folder, name, pair) };
  };
}

function known<T>(map: ReadonlyMap<string, T>, name: string): T {
  const value = map.get(name);
  if (value === undefined) throw new Error(`this cluster has no "${name}", only ${[...map.keys()].join(", ")}`);
  return value;
}

/** Projects, users with their roles, a token for each, and a login of each by the CLI. */
async function createUsers(
  cluster: Pick<Cluster, "connect" | "cli" | "url" | "caFile">,
  spec: ClusterSpec,
  tokens: Map<string, string>,
  progress: Progress,
): Promise<void> {
  await using service = cluster.connect("operator");
  const { admin } = service;
  for (const project of new Set(Object.values(spec.users).map((user) => user.project))) {
    progress(`creating the project ${project} …`);
    await admin.createProject({ name: project });
  }
  for (const [user, { project, role }] of Object.entries(spec.users)) {
    progress(`creating ${user}, ${role} of ${project}, and a token …`);
    await admin.createUser({ name: user });
    await admin.setMembership({ user, project, role });
    const { secret } = await admin.createUserToken({ user, note: "demo", lifetimeHours: 24 });
    tokens.set(user, secret);
  }
  // The last to log in is whom the CLI then takes without being told.
  for (const [user, token] of [...tokens].reverse()) {
    const { code, stderr } = await cluster.cli(user, ["login", cluster.url, "--ca", cluster.caFile], {
      CLOUDVMI_TOKEN: token,
    });
    if (code !== 0) throw new Error(`${user} can't log in: ${stderr.trim()}`);
  }
}

/** Waits until the agents have told control of every guest. */
async function announced(
  cluster: Pick<Cluster, "connect" | "guests" | "processes">,
  progress: Progress,
): Promise<void> {
  progress("waiting until every VM is announced …");
  await using service = cluster.connect("operator");
  const deadline = performance.now() + 60_000;
  for (;;) {
    const { vms } = await service.admin.listAllVms({});
    if (vms.length >= cluster.guests.size) return;
    if (performance.now() > deadline) {
      const said = [...cluster.processes.values()].map((process) => process.log().trimEnd().split("\n").at(-1) ?? "");
      throw new Error(
        `after a minute control knows ${vms.length} VMs of ${cluster.guests.size}; if another agent of this user runs ` +
          `(\`cloudvmi up\`), it has taken their monitors: end it first. What the services said last:\n${said.join("\n")}`,
      );
    }
    await sleep(100);
  }
}

/** Runs the CLI with these changes to the environment. */
export function runCli(args: readonly string[], env: NodeJS.ProcessEnv): Promise<CliResult> {
  return new Promise((done, failed) => {
    const child = spawn(program, args, { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
    const output = { stdout: "", stderr: "" };
    for (const name of ["stdout", "stderr"] as const) {
      child[name].setEncoding("utf8").on("data", (text: string) => {
        output[name] += text;
      });
    }
    child.once("error", failed);
    child.once("close", (code) => done({ code: code ?? 1, ...output }));
  });
}

async function closeAll(resources: Iterable<AsyncDisposable>): Promise<void> {
  await Promise.all([...resources].map((resource) => resource[Symbol.asyncDispose]()));
}
