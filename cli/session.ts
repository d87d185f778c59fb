import type { Command } from "commander";
import type { CloudVmi } from "../sdk/index.ts";
import { resolveContext } from "./context.ts";
import type { Io } from "./io.ts";
import { createPrinter, type Printer } from "./print.ts";

/** Options that every command has. */
export interface CommonOptions {
  json?: boolean;
  verbose?: boolean;
  context?: string;
}

/** What a running command works with; whatever it opens is closed when it ends, however it ends. */
export interface Session {
  readonly io: Io;
  readonly printer: Printer;
  readonly common: CommonOptions;
  readonly resources: AsyncDisposableStack;
  /** The service of the context, connected on first use. */
  service(): Promise<CloudVmi>;
}

type Run<A extends unknown[], O> = (session: Session, options: O, ...args: A) => Promise<void>;

/** A commander action that gets a session, the command's options (with those of its parents) and its arguments. */
export function action<A extends unknown[], O = Record<string, never>>(io: Io, run: Run<A, O>) {
  return async (...all: unknown[]): Promise<void> => {
    // Commander passes the arguments, then the options, then the command.
    const command = all.at(-1) as Command;
    const options = command.optsWithGlobals<CommonOptions>();
    await using resources = new AsyncDisposableStack();
    io.signal.throwIfAborted();
    // Closing what is open ends the calls that wait for an answer, and with them the command.
    io.signal.addEventListener("abort", () => void resources.disposeAsync(), { once: true });
    let service: Promise<CloudVmi> | undefined;
    const session: Session = {
      io,
      printer: createPrinter(io, options.json === true),
      common: options,
      resources,
      service: () => {
        service ??= openService(io, options, resources);
        return service;
      },
    };
    await run(session, options as O, ...(all.slice(0, -2) as A));
  };
}

async function openService(io: Io, options: CommonOptions, resources: AsyncDisposableStack): Promise<CloudVmi> {
  const context = await resolveContext(io.env, options.context);
  // Only commands that talk to the service pay for loading the client.
  const { connect } = await import("../sdk/index.ts");
  return resources.use(connect(context));
}
