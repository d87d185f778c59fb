import { type Code, ConnectError } from "@connectrpc/connect";
import type { CallContext } from "../../wire/index.ts";
import type { Action } from "../action.ts";
import { rulesOf } from "../action.ts";
import type { Principal } from "../auth/authenticator.ts";
import { exhausted } from "../problem.ts";
import { createAnswerBudget } from "./answer-budget.ts";

export interface CallLimits {
  /** For calls that name none, in milliseconds. */
  readonly defaultTimeoutMs: number;
  /** What a caller may ask for at most. */
  readonly maxTimeoutMs: number;
  /** Calls of one user at once. */
  readonly maxConcurrent: number;
}

export const defaultLimits: CallLimits = { defaultTimeoutMs: 30_000, maxTimeoutMs: 300_000, maxConcurrent: 32 };

/** Answers up to this many bytes are bounded by the number of calls alone. */
const smallAnswer = 64 * 1024;
const budget = { perUser: 64 * 1024 * 1024, total: 512 * 1024 * 1024 };

/** A call that is being answered. Its place is free when it has been disposed of, and its answer been taken by the caller. */
export interface ActiveCall extends Disposable {
  readonly principal: Principal;
  /** Aborted when the caller goes, and when its token is revoked meanwhile. */
  readonly signal: AbortSignal;
  /** As the limits or the rules of the action that has begun say. */
  readonly timeoutMs: number;
  /** Puts the call under the limits of its action; throws ResourceExhausted. */
  begin(action: Action): void;
  /** Waits until the caller has read enough of its earlier answers for one of so many bytes. Throws as the budget does. */
  room(bytes: number): Promise<void>;
}

export interface Calls {
  /** Throws ResourceExhausted. */
  open(context: CallContext<unknown>, principal: Principal): ActiveCall;
  /** Aborts the calls of a token. */
  abort(tokenId: string, code: Code, text: string): void;
  readonly count: number;
}

export function createCalls(limits: CallLimits): Calls {
  const running = new Set<{ readonly tokenId: string; readonly end: AbortController }>();
  const counts = new Map<string, number>();
  const answers = createAnswerBudget(budget);

  /** Returns how to give the place back. */
  function take(key: string, limit: number, what: string): () => void {
    const count = counts.get(key) ?? 0;
    if (count >= limit) throw exhausted(`you have ${limit} ${what} under way, the most allowed: wait for one to end`);
    counts.set(key, count + 1);
    return () => {
      const left = counts.get(key)! - 1;
      if (left === 0) counts.delete(key);
      else counts.set(key, left);
    };
  }

  return {
    open(context, principal) {
      const user = principal.account.name;
      const release = [take(user, limits.maxConcurrent, "calls")];
      const end = new AbortController();
      const onAbort = () => end.abort(context.signal.reason);
      if (context.signal.aborted) onAbort();
      else context.signal.addEventListener("abort", onAbort);
      const entry = { tokenId: principal.tokenId, end };
      running.add(entry);
      let { defaultTimeoutMs, maxTimeoutMs } = limits;
      return {
        principal,
        signal: end.signal,
        get timeoutMs() {
          return Math.min(context.timeoutMs ?? defaultTimeoutMs, maxTimeoutMs);
        },
        begin(action) {
          const { concurrent, timeoutMs } = rulesOf(action);
          if (timeoutMs !== undefined) defaultTimeoutMs = maxTimeoutMs = timeoutMs;
          if (concurrent !== undefined) release.push(take(`${user} ${action}`, concurrent, `'${action}' calls`));
        },
        async room(bytes) {
          if (bytes > smallAnswer) release.push(await answers.take(user, bytes, end.signal, this.timeoutMs));
        },
        [Symbol.dispose]() {
          running.delete(entry);
          context.signal.removeEventListener("abort", onAbort);
          context.whenAnswered(() => {
            for (const each of release.splice(0)) each();
          });
        },
      };
    },
    abort(tokenId, code, text) {
      for (const entry of running) if (entry.tokenId === tokenId) entry.end.abort(new ConnectError(text, code));
    },
    get count() {
      return running.size;
    },
  };
}
