import { mkdir, readFile, writeFile } from "node:fs/promises";
import { homedir, hostname } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Layer } from "../../agent/index.ts";
import type { Vm } from "../../sdk/index.ts";
import { usageError } from "../failure.ts";
import { sanitise } from "../format/sanitise.ts";
import { count } from "../format/units.ts";
import type { CommonOptions, Session } from "../session.ts";
import { supervise } from "../supervise.ts";
import { vmColumns, vmRow } from "./fleet.ts";

/** What `agent` and `control` tell the process that has started them, once they serve. */
export type ReadyMessage = { ready: "agent"; address: string } | { ready: "control"; url: string };

interface UpOptions extends CommonOptions {
  listen?: string;
  name?: string;
  state?: string;
  allowMissing?: Layer[];
}

/** Linux keeps the path of a unix socket in 108 bytes. */
const longestSocketPath = 107;

/** Agent and control on this host, until interrupted. */
export async function up(session: Session, options: UpOptions): Promise<void> {
  const { io, printer } = session;
  const state = resolve(options.state ?? (io.env.CLOUDVMI_STATE || defaultState(io.env)));
  const files = await prepare(state, options);
  const say = async (line: string) => {
    if (!printer.json) await printer.lines([line]);
  };
  const report = (line: string) => void printer.note(line);
  const log = (line: string) => {
    const readable = readableLog(line, session.common.verbose === true);
    if (readable !== undefined) void io.err.write(`${sanitise(readable)}\n`);
  };
  const stack = new AsyncDisposableStack();
  try {
    const start = async (name: "agent" | "control", config: string) => {
      const words = [io.entry, name, "--config", config];
      const process = await supervise<ReadyMessage>({ name, words, env: io.env, report, log, signal: io.signal });
      stack.defer(() => process.stop());
      return process.ready;
    };
    await say(`Starting the agent (${files.agent}) …`);
    await start("agent", files.agent);
    await say(`Starting control (${files.control}) …`);
    const ready = await start("control", files.control);
    const url = ready.ready === "control" ? ready.url : "";
    await say("Looking for virtual machines …");
    const vms = await findVms(url, files, io.signal);
    await introduce(session, url, files, vms);
    await ended(io.signal);
    await say("Stopping …");
  } finally {
    await stack.disposeAsync();
  }
}

/** Lines of control's log are JSON, for machines: here a person reads them, and routine is shown with --verbose only. */
export function readableLog(line: string, verbose: boolean): string | undefined {
  if (!line.startsWith("{")) return line;
  let entry: Record<string, unknown>;
  try {
    entry = JSON.parse(line);
  } catch {
    return line;
  }
  const { time: _time, level, event, ...rest } = entry;
  if (level === "info" && !verbose) return undefined;
  const details = Object.entries(rest).map(([name, value]) => `${name}=${String(value)}`);
  return `control: ${[String(event), ...details].join(" ")}`;
}

function defaultState(env: NodeJS.ProcessEnv): string {
  if (process.getuid?.() === 0) return "/var/lib/cloudvmi";
  return join(env.XDG_STATE_HOME || join(env.HOME || homedir(), ".local", "state"), "cloudvmi");
}

interface Files {
  agent: string;
  control: string;
  token: string;
  ca: string;
}

/** Folders and configurations: written once, then the operator's. */
async function prepare(state: string, options: UpOptions): Promise<Files> {
  const files = {
    agent: join(state, "agent.toml"),
    control: join(state, "control.toml"),
    token: join(state, "control", "admin.token"),
    ca: join(state, "control", "ca.pem"),
  };
  const socket = join(state, "agent.sock");
  if (Buffer.byteLength(socket) > longestSocketPath) {
    throw usageError(`${state} is too long a path for a socket: choose a shorter one with --state`);
  }
  const listen = options.listen ?? "127.0.0.1:7443";
  if (!/^(?:\[[\da-fA-F:]+\]|[\w.-]+):\d{1,5}$/.test(listen)) {
    throw usageError(`--listen ${listen}: write host:port, such as 127.0.0.1:7443`);
  }
  await mkdir(state, { recursive: true, mode: 0o700 });
  const name = options.name ?? hostname().split(".")[0]!;
  const agentGiven = options.name ?? options.allowMissing?.join();
  await writeOnce(files.agent, agentConfig(name, socket, state, options.allowMissing ?? []), agentGiven);
  await writeOnce(files.control, controlConfig(listen, name, socket, state), options.listen ?? options.name);
  return files;
}

/** Keeps a configuration that is there; says so when an option would need another one. */
async function writeOnce(path: string, text: string, given: string | undefined): Promise<void> {
  try {
    await writeFile(path, text, { flag: "wx", mode: 0o600 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    if (given === undefined || (await readFile(path, "utf8")) === text) return;
    throw usageError(`${path} exists and says otherwise: change it there, or remove it`, error);
  }
}

const quote = (text: string) => JSON.stringify(text);

function agentConfig(name: string, socket: string, state: string, missing: readonly Layer[]): string {
  return `# Written by \`cloudvmi up\`; yours to change (docs/operator-guide.md).
name = ${quote(name)}
listen = ${quote(`unix:${socket}`)}
state = ${quote(join(state, "agent"))}

[sandbox]
# Layers of the inspectors' sandbox that this host may lack: "namespaces", "uid", "seccomp".
allow_missing = [${missing.map(quote).join(", ")}]

[discovery]
processes = true

# Who owns which VM can be said here, or with \`cloudvmi admin owner set\`:
# [[vm]]
# name = "web1"
# project = "shop"
`;
}

function controlConfig(listen: string, name: string, socket: string, state: string): string {
  return `# Written by \`cloudvmi up\`; yours to change (docs/operator-guide.md).
listen = ${quote(`tls://${listen}`)}
state = ${quote(join(state, "control"))}

[[agent]]
name = ${quote(name)}
address = ${quote(`unix:${socket}`)}
`;
}

/** The VMs that the agent finds within a few seconds. */
async function findVms(url: string, files: Files, signal: AbortSignal): Promise<Vm[]> {
  const { connect } = await import("../../sdk/index.ts");
  const [token, ca] = await Promise.all([readFile(files.token, "utf8"), readFile(files.ca, "utf8")]);
  await using service = connect({ url, token: token.trim(), ca });
  const deadline = Date.now() + 5000;
  let seen = -1;
  while (true) {
    const { vms } = await service.admin.listAllVms({});
    // Twice the same number, and not none: discovery has come to an end.
    if (signal.aborted || Date.now() > deadline || (vms.length > 0 && vms.length === seen)) return vms;
    seen = vms.length;
    await sleep(500, undefined, { signal }).catch(() => {});
  }
}

async function introduce({ printer }: Session, url: string, files: Files, vms: Vm[]): Promise<void> {
  if (printer.json) {
    return printer.object({
      url,
      admin_token: files.token,
      ca: files.ca,
      config: [files.agent, files.control],
      vms: vms.map(vmRow),
    });
  }
  await printer.lines(["", `CloudVMI is up at ${url}, with ${count(vms.length, "virtual machine")}.`]);
  if (vms.length > 0) await printer.list(vms.map(vmRow), vmColumns);
  const vm = vms[0]?.name || vms[0]?.id?.uuid || "VM";
  await printer.lines([
    "",
    `The first operator's token is in ${files.token}, for you alone. In another terminal:`,
    `  cloudvmi login ${url} --ca ${files.ca} --token-file ${files.token}`,
    "  cloudvmi admin vms                              every VM, owned or not",
    "  cloudvmi admin project create mine              a project,",
    `${`  cloudvmi admin owner set ${vm} mine`.padEnd(50)}its VM,`,
    "  cloudvmi admin user create alice                its user,",
    "  cloudvmi admin member set alice mine analyst",
    "  cloudvmi admin token create alice > alice.token",
    "Ctrl-C stops it.",
  ]);
}

function ended(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
