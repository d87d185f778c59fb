import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Vm } from "../../sdk/index.ts";
import { usageError } from "../failure.ts";
import { stateHome } from "../folders.ts";
import { sanitise } from "../format/sanitise.ts";
import { count } from "../format/units.ts";
import type { CommonOptions, Session } from "../session.ts";
import { supervise } from "../supervise.ts";
import { agentSocket, prepare, type UpFiles, type UpSettings } from "../up-config.ts";
import { vmColumns, vmRow } from "./fleet.ts";

/** What `agent` and `control` tell the process that has started them, once they serve. */
export type ReadyMessage = { ready: "agent"; address: string } | { ready: "control"; url: string };

type UpOptions = CommonOptions & UpSettings & { state?: string };

/** Agent and control on this host, until interrupted. */
export async function up(session: Session, options: UpOptions): Promise<void> {
  const { io, printer } = session;
  const state = resolve(options.state ?? (io.env.CLOUDVMI_STATE || defaultState(io.env)));
  const { isListening } = await import("../../agent/index.ts");
  // Before anything is written: what runs reads its configuration again whenever a part of it has to be restarted.
  if (await isListening(agentSocket(state))) {
    throw usageError(
      `\`cloudvmi up\` runs with ${state} already: end that one first, or choose another folder with --state`,
    );
  }
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
  return join(stateHome(env), "cloudvmi");
}

/** The VMs that the agent finds within a few seconds. */
async function findVms(url: string, files: UpFiles, signal: AbortSignal): Promise<Vm[]> {
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

async function introduce({ printer }: Session, url: string, files: UpFiles, vms: Vm[]): Promise<void> {
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
  else {
    await printer.lines([
      "It finds QEMU processes that this user may read and that have a QMP socket: start them with",
      "-qmp unix:/run/NAME.qmp,server=on,wait=off; they are found while this runs. As root it finds those of all users.",
    ]);
  }
  const vm = referenceTo(vms);
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

/** How commands can name the first VM: by its name when no other has it, and a shell takes it for no more than a word. */
export function referenceTo(vms: readonly Pick<Vm, "id" | "name">[]): string {
  const [first] = vms;
  const named =
    first !== undefined && /^\w[\w.-]*$/.test(first.name) && vms.filter(({ name }) => name === first.name).length === 1;
  return (named ? first.name : first?.id?.uuid) || "VM";
}

function ended(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
