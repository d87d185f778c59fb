import { CommanderError } from "commander";
import { exitCode } from "./exit-code.ts";
import { describeFailure, stackOf } from "./failure.ts";
import type { Io } from "./io.ts";
import { buildProgram } from "./program.ts";

/** What a shell expects of a program that was interrupted: 128 + SIGINT. */
const interrupted = 130;

/** Runs one command line (without the program's name). Returns the exit code; prints everything that is to be said. */
export async function run(words: readonly string[], io: Io): Promise<number> {
  const program = buildProgram(io);
  try {
    await program.parseAsync([...words], { from: "user" });
    return exitCode.done;
  } catch (error) {
    // The reader has seen enough (`| head`): nothing is wrong, and there is no one to tell.
    if ((error as NodeJS.ErrnoException).code === "EPIPE") return exitCode.done;
    if (io.signal.aborted) return interrupted;
    const failure = describeFailure(error);
    // Commander has already printed its own errors, and help and version are none.
    if (!(error instanceof CommanderError)) {
      await io.err.write(`cloudvmi: ${failure.line}\n`);
      if (program.opts().verbose) await io.err.write(`${stackOf(error)}\n`);
    }
    return failure.exit;
  }
}
