import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { exitCode } from "./exit-code.ts";
import { CliError } from "./failure.ts";

export interface Supervised<M> {
  /** What the process said when it was ready for the first time. */
  readonly ready: M;
  /** Stops the process, and waits for it. */
  stop(): Promise<void>;
}

export interface SupervisedProcess {
  /** For messages. */
  name: string;
  /** Command line after Node. */
  words: string[];
  env: NodeJS.ProcessEnv;
  /** Told what happens, a line each. */
  report(line: string): void;
  /** Told what the process writes to its stderr, a line each. */
  log(line: string): void;
  signal: AbortSignal;
}

/** A process that lived this long in ms has recovered: the next restart is quick again. */
const recoveredAfter = 60_000;
const maxDelay = 30_000;
/** A process that doesn't end by itself within this time in ms is killed. */
const patience = 10_000;

/**
 * Starts a process of this program that sends one message when it is ready, and starts it again whenever it ends.
 * Fails when it ends before it has ever been ready: then its configuration is wrong, and it has said so on stderr.
 */
export async function supervise<M>(options: SupervisedProcess): Promise<Supervised<M>> {
  const { name, signal, report } = options;
  let stopping = false;
  let current = launch<M>(options);
  const ready = await current.ready;
  const keeping = (async () => {
    let delay = 1000;
    while (true) {
      const ended = await current.ended;
      if (stopping || signal.aborted) return;
      if (Date.now() - current.since > recoveredAfter) delay = 1000;
      report(`${name} ended (${ended}): starting it again in ${delay / 1000} s`);
      await sleep(delay, undefined, { signal }).catch(() => {});
      if (stopping || signal.aborted) return;
      delay = Math.min(delay * 2, maxDelay);
      current = launch<M>(options);
      current.ready.then(
        () => report(`${name} is back`),
        // Its end is handled by the next round.
        () => {},
      );
    }
  })();
  return {
    ready,
    async stop() {
      stopping = true;
      await end(current.child, current.ended);
      await keeping;
    },
  };
}

interface Launched<M> {
  child: ChildProcess;
  since: number;
  ready: Promise<M>;
  ended: Promise<string>;
}

function launch<M>({ name, words, env, log }: SupervisedProcess): Launched<M> {
  // The channel also tells the child when we are gone, even if we were killed.
  const child = spawn(process.execPath, words, { env, stdio: ["ignore", "inherit", "pipe", "ipc"] });
  const lines = createInterface({ input: child.stderr! });
  lines.on("line", log);
  const silent = once(lines, "close");
  const ended = new Promise<string>((resolve) => {
    child.once("exit", (code, by) => resolve(by ?? `exit code ${code}`));
    child.once("error", (error) => resolve(error.message));
  });
  const ready = new Promise<M>((resolve, reject) => {
    child.once("message", (message) => resolve(message as M));
    void ended.then(async (how) => {
      // What it said comes first. A process of its own that it left behind may keep the pipe open: not for ever.
      await Promise.race([silent, sleep(1000)]);
      const code = child.exitCode === exitCode.usage ? exitCode.usage : exitCode.failed;
      reject(new CliError(code, `${name} did not start (${how}): correct what it says above`));
    });
  });
  // A restart that fails is handled where its end is.
  ready.catch(() => {});
  return { child, since: Date.now(), ready, ended };
}

async function end(child: ChildProcess, ended: Promise<string>): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), patience);
  await ended;
  clearTimeout(timer);
}
