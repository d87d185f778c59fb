// Threads that run statements. One that has ended well is kept for a while: starting one takes some 100 ms.
import { Worker } from "node:worker_threads";
import { Code, ConnectError } from "@connectrpc/connect";

/** A thread for one statement. */
export interface Thread {
  readonly worker: Worker;
  /** Aborted, with what to tell its user, when it was taken back for others who wait. */
  readonly signal: AbortSignal;
  /** Gives it back; what a statement that was not run to its end has left goes with the thread. */
  release(ended: boolean): void;
}

/** Statements that run at once: more would only share the CPUs. */
const maxThreads = 4;
/** Of them, those of one user. */
const maxOfOne = 2;
/** Statements that wait for a thread. */
const maxWaiting = 64;
const idleMs = 60_000;
/** Of JavaScript. What SQLite takes is beside it, and has a limit of its own. */
const heapMb = 256;

/** Each with how it is taken out again. */
const idle = new Map<Worker, () => void>();
const waiting: Waiting[] = [];
const running = new Set<Running>();
/** User → when he got a thread last, as a number that grows. */
const served = new Map<string, number>();
let turns = 0;
let roomTimer: NodeJS.Timeout | undefined;

interface Waiting {
  readonly user: string;
  readonly fair: FairTimes;
  go(): void;
}

interface Running {
  readonly user: string;
  readonly startedMs: number;
  readonly end: AbortController;
}

/** How long a statement has its thread at least while users wait who have none, in milliseconds. */
export interface FairTimes {
  /** Of a user who has others too. */
  readonly oneOfMany: number;
  /** The only one of its user. Shorter than the time that a statement has by default, so that those who wait get their turn. */
  readonly only: number;
}

const fairTimes: FairTimes = { oneOfMany: 10_000, only: 20_000 };

const runningOf = (user: string) => [...running].filter((each) => each.user === user).length;
const mayRun = (user: string) => running.size < maxThreads && runningOf(user) < maxOfOne;

function begin(user: string): Running {
  const entry = { user, startedMs: performance.now(), end: new AbortController() };
  running.add(entry);
  if (served.size > 10_000) served.clear();
  served.set(user, ++turns);
  return entry;
}

/**
 * Takes a thread for a statement of this user, which may have to be waited for. Users take turns, and one who has none does
 * not wait for another's endless statements: the longest of whoever has most is ended for him. Throws ResourceExhausted
 * when too many wait already, DeadlineExceeded when it has waited for so long.
 */
export async function takeThread(
  user: string,
  timeoutMs: number,
  signal?: AbortSignal,
  fair: FairTimes = fairTimes,
): Promise<Thread> {
  if (!mayRun(user) && waiting.length >= maxWaiting) {
    throw new ConnectError("too many statements wait to be run: try again later", Code.ResourceExhausted);
  }
  const entry = mayRun(user) ? begin(user) : await turn(user, timeoutMs, fair, signal);
  const worker = takeIdle() ?? start();
  worker.ref();
  let released = false;
  const release = (ended: boolean) => {
    if (released) return;
    released = true;
    // One that has died has no number any more.
    if (ended && worker.threadId >= 0) keep(worker);
    else void worker.terminate();
    running.delete(entry);
    nextTurn();
    makeRoom();
  };
  return { worker, signal: entry.end.signal, release };
}

/** Gives the free place to the user who has the fewest, of those to the one who was served least recently. */
function nextTurn(): void {
  const [next] = waiting
    .filter(({ user }) => mayRun(user))
    .sort((a, b) => runningOf(a.user) - runningOf(b.user) || (served.get(a.user) ?? 0) - (served.get(b.user) ?? 0));
  next?.go();
}

/** Ends statements for users who wait and have no thread, as soon as their fair time is over. */
function makeRoom(): void {
  clearTimeout(roomTimer);
  const needy = waiting.filter(({ user }) => runningOf(user) === 0);
  const leaving = [...running].filter(({ end }) => end.signal.aborted).length;
  const [first] = needy;
  if (first === undefined || new Set(needy.map(({ user }) => user)).size <= leaving) return;
  const now = performance.now();
  const others = [...running]
    .filter(({ end }) => !end.signal.aborted)
    .map((each) => {
      const count = runningOf(each.user);
      return { each, count, left: each.startedMs + (count > 1 ? first.fair.oneOfMany : first.fair.only) - now };
    });
  const [longest] = others.filter(({ left }) => left <= 0).sort((a, b) => b.count - a.count || a.left - b.left);
  if (longest === undefined) {
    roomTimer = setTimeout(makeRoom, Math.min(...others.map(({ left }) => left)) + 1).unref();
    return;
  }
  const seconds = Math.round((now - longest.each.startedMs) / 1000);
  const text = `the statement was ended after ${seconds} s, since other users wait for theirs: ask for less, or try again later`;
  longest.each.end.abort(new ConnectError(text, Code.ResourceExhausted));
  makeRoom();
}

/** Waits for a place. */
function turn(user: string, timeoutMs: number, fair: FairTimes, signal: AbortSignal | undefined): Promise<Running> {
  return new Promise((resolve, reject) => {
    const leave = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
      waiting.splice(waiting.indexOf(entry), 1);
    };
    const onAbort = () => {
      leave();
      reject(signal?.reason as Error);
    };
    const timer = setTimeout(() => {
      leave();
      const text = `other statements have taken the ${timeoutMs / 1000} s of this one: try again later`;
      reject(new ConnectError(text, Code.DeadlineExceeded));
    }, timeoutMs);
    const entry: Waiting = {
      user,
      fair,
      go() {
        leave();
        // At once: the place is not for who comes in between.
        resolve(begin(user));
      },
    };
    signal?.addEventListener("abort", onAbort, { once: true });
    waiting.push(entry);
    makeRoom();
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
