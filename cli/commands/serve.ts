import type { Command } from "commander";
import { usageError } from "../failure.ts";
import type { Io } from "../io.ts";
import { parseLayers } from "../layers.ts";
import { action, type CommonOptions, type Session } from "../session.ts";
import { addCommand, groups } from "./command.ts";
import { type ReadyMessage, up } from "./up.ts";

export function addServeCommands(program: Command, io: Io): void {
  addCommand(
    program,
    "up",
    {
      summary: "Run the whole service on this host: finds its VMs, and serves them.",
      description:
        "Starts an agent and a control process, restarts them when they fail, and stops both on Ctrl-C.\n" +
        "State is kept in $CLOUDVMI_STATE, by default /var/lib/cloudvmi (root) or ~/.local/state/cloudvmi;\n" +
        "the two configurations written there are yours to change. Both run as the user that starts this:\n" +
        "to keep the public side without the agent's privileges, run `cloudvmi agent` and `cloudvmi control`\n" +
        "as services of two users.",
      examples: ["up", "up --listen 0.0.0.0:7443 --name host1", "up --state ./try"],
    },
    groups.operate,
  )
    .option("--listen <host:port>", "where the service listens (at first: 127.0.0.1:7443)")
    .option("--name <name>", "of this host, as the service shows it (at first: the host's name)")
    .option("--state <folder>", "where state is kept")
    .option(
      "--allow-missing <layers>",
      "layers of the sandbox that this host may lack: namespaces, uid, seccomp",
      parseLayers,
    )
    .action(action(io, up));

  addCommand(
    program,
    "agent",
    {
      summary: "Run the agent of a host: finds its VMs and reads them, for control.",
      examples: ["agent --config /etc/cloudvmi/agent.toml"],
    },
    groups.operate,
  )
    .requiredOption("--config <file>", "configuration (TOML); see docs/operator-guide.md")
    .action(action(io, runAgent));

  addCommand(
    program,
    "control",
    {
      summary: "Run control: the public service, over any number of agents.",
      examples: ["control --config /etc/cloudvmi/control.toml"],
    },
    groups.operate,
  )
    .requiredOption("--config <file>", "configuration (TOML); see docs/operator-guide.md")
    .action(action(io, runControl));
}

type ServeOptions = CommonOptions & { config: string };

async function runAgent(session: Session, { config }: ServeOptions): Promise<void> {
  const { ConfigError, loadAgentConfig, startAgent } = await import("../../agent/index.ts");
  const running = await startAgent(configured(() => loadAgentConfig(config))).catch((error: unknown) => {
    // A certificate or an address that shows only at start that it can't be used.
    if (error instanceof ConfigError) throw usageError(error.message, error);
    throw error;
  });
  await serve(
    session,
    running,
    { ready: "agent", address: running.address },
    `The agent serves on ${running.address}.`,
  );
}

async function runControl(session: Session, { config }: ServeOptions): Promise<void> {
  const { ConfigError, loadControlConfig, PolicyError, startControl } = await import("../../control/index.ts");
  const running = await startControl(configured(() => loadControlConfig(config))).catch((error: unknown) => {
    // Found only once everything is put together, but the operator's to correct as well.
    if (error instanceof ConfigError || error instanceof PolicyError) throw usageError(error.message, error);
    throw error;
  });
  await serve(session, running, { ready: "control", url: running.url }, `The service is at ${running.url}.`);
}

/** What is wrong with a configuration is wrong usage, whatever it is. */
function configured<T>(load: () => T): T {
  try {
    return load();
  } catch (error) {
    throw usageError(error instanceof Error ? error.message : String(error), error);
  }
}

/** Says that it serves, and serves until it is to end: by a signal, or when the supervisor that started it is gone. */
async function serve(
  { io, printer }: Session,
  running: { close(): Promise<void> },
  message: ReadyMessage,
  sentence: string,
): Promise<void> {
  const ended = new Promise<void>((resolve) => {
    if (io.signal.aborted) resolve();
    io.signal.addEventListener("abort", () => resolve(), { once: true });
    process.once("disconnect", resolve);
  });
  try {
    if (process.send === undefined) await printer.done(sentence, message);
    else process.send(message);
    await ended;
  } finally {
    await running.close();
  }
}
