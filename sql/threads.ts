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
/** Statements that wait for a thread. */
const mostWaiting = 64;
const idleMs = 60_000;
/** Of JavaScript. What SQLite takes is beside it, and has a limit of its own. */
const heapMb = 256;

/** Each with how it is taken out again. */
const idle = new Map<Worker, () => void>();
const waiting: (() => void)[] = [];
let running = 0;

/** Takes a thread, which may have to be waited for. Throws ResourceExhausted when too many wait already. */
export async function takeThread(signal: AbortSignal | undefined): Promise<Thread> {
  if (running >= most) {
    if (waiting.length >= mostWaiting) {
      throw new ConnectError("too many statements wait to be run: try again later", Code.ResourceExhausted);
    }
    await turn(signal);
  } else running++;
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
      const next = waiting.shift();
      if (next === undefined) running--;
      else next();
    },
  };
}

/** Waits for a place; it passes from one statement to the next. */
function turn(signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const leave = () => {
      waiting.splice(waiting.indexOf(go), 1);
      reject(signal?.reason as Error);
    };
    const go = () => {
      signal?.removeEventListener("abort", leave);
      resolve();
    };
    signal?.addEventListener("abort", leave, { once: true });
    waiting.push(go);
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
