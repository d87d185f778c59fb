/**
 * Pauses that end by themselves. Several callers may hold a VM at once: it runs again when the last of their leases has
 * ended, by resume or by time. A VM that its operator had paused stays paused. That the agent has paused a VM is written
 * down first, so that an agent that was killed meanwhile resumes the VM when it is back.
 */
import { randomUUID } from "node:crypto";
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { Code, ConnectError } from "@connectrpc/connect";

export interface PauseControl {
  /** QEMU's RunState. */
  status(): Promise<string>;
  stop(): Promise<void>;
  cont(): Promise<void>;
}

export interface Leases {
  /** @throws ConnectError ResourceExhausted when too many are held, Unavailable after close; what the monitor throws. */
  pause(seconds: number): Promise<{ lease: string; expiresMs: number }>;
  /** Ends a lease. True when the VM runs then. @throws ConnectError NotFound for a lease that is none, or has ended. */
  resume(lease: string): Promise<boolean>;
  /** Ends what an earlier run of the agent has left behind. */
  recover(): Promise<void>;
  /** Ends every lease, and takes no more: the agent stops, or the VM has ended. What fails is logged. */
  close(): Promise<void>;
}

export const maxLeaseSeconds = 300;
export const defaultLeaseSeconds = 30;
/** More leases than this on one VM have no good reason. */
const maxLeases = 64;
const retryMs = 1000;

/** @param note the file that says that this agent paused the VM; undefined where nothing outlives the program. */
export function createLeases(control: PauseControl, note: string | undefined, log: (line: string) => void): Leases {
  const held = new Map<string, NodeJS.Timeout>();
  let pausedByUs = false;
  let closed = false;
  let retry: NodeJS.Timeout | undefined;
  let last: Promise<unknown> = Promise.resolve();

  /** One after the other: a pause must not overtake the resume before it. */
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = last.then(work);
    last = result.catch(() => {});
    return result;
  }

  async function stop(): Promise<void> {
    if (note) writeFileSync(note, "", { mode: 0o600 });
    pausedByUs = true;
    try {
      await control.stop();
    } catch (error) {
      // A monitor that was only late may have stopped the VM all the same.
      runSoon();
      throw error;
    }
  }

  async function run(): Promise<boolean> {
    if (held.size > 0) return false;
    clearTimeout(retry);
    await undo();
    return (await control.status()) === "running";
  }

  async function undo(): Promise<void> {
    if (!pausedByUs) return;
    if ((await control.status()) === "paused") await control.cont();
    pausedByUs = false;
    if (note) rmSync(note, { force: true });
  }

  /** Runs the VM again, and tries until it is done: nobody else will. */
  function runSoon(): void {
    if (closed) return; // close() does it
    inTurn(run).catch((error: unknown) => {
      log(`a pause could not be ended, trying again: ${explain(error)}`);
      retry = setTimeout(runSoon, retryMs).unref();
    });
  }

  function drop(lease: string): boolean {
    clearTimeout(held.get(lease));
    return held.delete(lease);
  }

  return {
    pause: (seconds) =>
      inTurn(async () => {
        if (closed)
          throw new ConnectError("the VM has ended, or its agent stops; ask again in a moment", Code.Unavailable);
        if (held.size >= maxLeases)
          throw new ConnectError("too many pauses are held on this VM", Code.ResourceExhausted);
        // Also with leases held: the VM's operator may have continued it meanwhile.
        if ((await control.status()) === "running") await stop();
        const lease = randomUUID();
        const expire = () => {
          if (drop(lease)) runSoon();
        };
        held.set(lease, setTimeout(expire, seconds * 1000));
        return { lease, expiresMs: Date.now() + seconds * 1000 };
      }),
    resume: (lease) =>
      inTurn(async () => {
        if (!drop(lease)) throw new ConnectError("this pause has ended, or never was", Code.NotFound);
        try {
          return await run();
        } catch (error) {
          runSoon();
          throw error;
        }
      }),
    recover: () =>
      inTurn(async () => {
        if (!note || !existsSync(note)) return;
        pausedByUs = true;
        await run();
        log("resumed a VM that an earlier run of this agent had paused");
      }),
    async close() {
      closed = true;
      try {
        await inTurn(async () => {
          for (const lease of held.keys()) drop(lease);
          await undo();
        });
      } catch (error) {
        log(`a pause could not be ended; the VM stays paused unless it has ended: ${explain(error)}`);
      }
      clearTimeout(retry);
    },
  };
}

function explain(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
