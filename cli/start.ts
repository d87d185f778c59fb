import { outputTo } from "./io.ts";
import { run } from "./run.ts";

/** Runs the command line of this process, and ends it. */
export async function start(): Promise<never> {
  const interruption = new AbortController();
  process.on("SIGINT", () => {
    // Whoever asks twice doesn't want to wait for a clean end.
    if (interruption.signal.aborted) process.exit(130);
    interruption.abort(new Error("interrupted"));
  });
  process.on("SIGTERM", () => interruption.abort(new Error("terminated")));
  // Each write reports its own failure; without a listener the stream's event would end the process.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});

  const code = await run(process.argv.slice(2), {
    out: outputTo(process.stdout),
    err: outputTo(process.stderr),
    stdin: process.stdin,
    env: process.env,
    entry: process.argv[1] ?? "",
    signal: interruption.signal,
  });
  process.exit(code);
}
