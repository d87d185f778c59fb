/** The daemon of one host. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { AgentService } from "../proto/gen/cloudvmi/agent/v1/agent_pb.ts";
import { GuestService } from "../proto/gen/cloudvmi/v1/guest_pb.ts";
import { createRoutes } from "../wire/index.ts";
import type { AgentConfig } from "./config.ts";
import { guestService } from "./guest-service.ts";
import { watchHost } from "./host.ts";
import { tableSpecs } from "./inspector/catalogue.ts";
import { openProfileStores } from "./profiles.ts";
import { inspectorProgram, scannerProgram } from "./program.ts";
import { probeSandbox } from "./sandbox/layers.ts";
import { serve } from "./server.ts";
import { typeFiles } from "./type-files.ts";
import { version } from "./version.ts";

export interface RunningAgent extends AsyncDisposable {
  /** unix:/path or tls://host:port */
  readonly address: string;
  /** Layers of the sandbox that this host does without, one line each. */
  readonly warnings: readonly string[];
  /** Ends every pause that is held, every inspector and every connection. */
  close(): Promise<void>;
}

export interface AgentOptions {
  /** Takes a line about what happened; by default it goes to standard error. */
  readonly log?: (line: string) => void;
}

/** @throws ConfigError, SandboxError, each of one line. */
export async function startAgent(config: AgentConfig, options: AgentOptions = {}): Promise<RunningAgent> {
  const log = options.log ?? ((line: string) => void process.stderr.write(`agent ${config.name}: ${line}\n`));
  const program = inspectorProgram();
  const sandbox = await probeSandbox(program, config.sandbox.allowMissing);
  for (const warning of sandbox.warnings) log(warning);
  const pauses = join(config.state, "pauses");
  mkdirSync(pauses, { recursive: true, mode: 0o700 });
  const host = watchHost({
    host: config.name,
    sandbox,
    program,
    scanner: scannerProgram(),
    profiles: openProfileStores(join(config.state, "profiles")),
    pauses,
    entries: config.vms,
    types: (file) => typeFiles(file, config.types.folder),
    processes: config.discovery.processes,
    log,
  });
  const routes = createRoutes<undefined>()
    .add(AgentService, {
      describe: async () => ({
        version,
        host: config.name,
        tables: tableSpecs(),
        warnings: [...sandbox.warnings],
      }),
      watchVms: (_request, { signal }) => host.watch(signal),
    })
    .add(GuestService, guestService<undefined>(host.find));
  try {
    const server = await serve(config, routes, log);
    const close = async () => {
      await server.close();
      await host.close();
    };
    return { address: server.address, warnings: sandbox.warnings, close, [Symbol.asyncDispose]: close };
  } catch (error) {
    await host.close();
    throw error;
  }
}
