// Threads that run statements. One that has ended well is kept for a while: starting one takes some 100 ms.
import { Worker } from "node:worker_threads";
import { Code, ConnectError } from "@connectrpc/connect";

/** A thread for one statement. */
export interface Thread {
  readonly worker: Worker;
  /** Gives it back; what a statement that was not run to its end has left goes with the thread. */
  release(ended: boolean): void;
}

/** Statements that run at once: more would only share the CPUs. */
const most = 4;
/** Of them, those of one user: with endless statements he keeps nobody else from theirs. */
const mostOfOne = 2;
/** Statements that wait for a thread. */
const mostWaiting = 64;
const idleMs = 60_000;
/** Of JavaScript. What SQLite takes is beside it, and has a limit of its own. */
const heapMb = 256;

/** Each with how it is taken out again. */
const idle = new Map<Worker, () => void>();
const waiting: { user: string; go: () => void }[] = [];
/** The user of each statement that runs. */
const running: string[] = [];

const mayRun = (user: string) => running.length < most && running.filter((other) => other === user).length < mostOfOne;

/**
 * Takes a thread for a statement of this user, which may have to be waited for. Throws ResourceExhausted when too many wait
 * already, DeadlineExceeded when it has waited for so long.
 */
export async function takeThread(user: string, timeoutMs: number, signal?: AbortSignal): Promise<Thread> {
  if (mayRun(user)) running.push(user);
  else {
    if (waiting.length >= mostWaiting) {
      throw new ConnectError("too many statements wait to be run: try again later", Code.ResourceExhausted);
    }
    await turn(user, timeoutMs, signal);
  }
  const worker = takeIdle() ?? start();
  worker.ref();
  let released = false;
  return {
    worker,
    release(ended) {
      if (released) return;
      released = true;
      // One that has died has no number any more.
      if (ended && worker.threadId >= 0) keep(worker);
      else void worker.terminate();
      running.splice(running.indexOf(user), 1);
      const next = waiting.find((each) => mayRun(each.user));
      if (next === undefined) return;
      waiting.splice(waiting.indexOf(next), 1);
      running.push(next.user);
      next.go();
    },
  };
}

/** Waits for a place; it passes from one statement to the next. */
function turn(user: string, timeoutMs: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    };
    const leave = (reason: unknown) => {
      end();
      waiting.splice(waiting.indexOf(entry), 1);
      reject(reason as Error);
    };
    const onAbort = () => leave(signal?.reason);
    const timer = setTimeout(() => {
      const text = `other statements have taken the ${timeoutMs / 1000} s of this one: try again later`;
      leave(new ConnectError(text, Code.DeadlineExceeded));
    }, timeoutMs);
    const entry = {
      user,
      go() {
        end();
        resolve();
      },
    };
    signal?.addEventListener("abort", onAbort, { once: true });
    waiting.push(entry);
  });
}

function takeIdle(): Worker | undefined {
  const [last] = [...idle].slice(-1);
  last?.[1]();
  return last?.[0];
}

function start(): Worker {
  return new Worker(new URL("./worker.ts", import.meta.url), {
    env: {},
    stdin: false,
    resourceLimits: { maxOldGenerationSizeMb: heapMb },
  });
}

function keep(worker: Worker): void {
  const end = () => {
    takeOut();
    void worker.terminate();
  };
  // Neither it nor its timer keeps a program alive.
  const timer = setTimeout(end, idleMs).unref();
  const takeOut = () => {
    clearTimeout(timer);
    idle.delete(worker);
    worker.off("error", end).off("exit", end);
  };
  worker.once("error", end).once("exit", end);
  worker.unref();
  idle.set(worker, takeOut);
}
