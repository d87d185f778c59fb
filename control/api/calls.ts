import type { CallContext } from "../../wire/index.ts";
import type { Action, VmAction } from "../action.ts";
import { rulesOf } from "../action.ts";
import type { Principal } from "../auth/authenticator.ts";
import type { Credential } from "../auth/token.ts";
import type { FleetVm } from "../fleet/registry.ts";
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

/** What a call has been permitted, and what it must still be permitted for as long as it runs. */
export interface Grant {
  readonly action: VmAction;
  /** For the action `table`. */
  readonly table: string;
  /** As it was when the call was let in. */
  readonly vm: FleetVm;
  /** What the caller calls it. */
  readonly reference: string;
}

/** A call that is being answered. Its place is free when it has been disposed of, and its answer been taken by the caller. */
export interface ActiveCall extends Disposable {
  /** As of the newest decision on it. */
  readonly principal: Principal;
  /** Aborted when the caller goes, and when the call may not go on. */
  readonly signal: AbortSignal;
  /** As the limits or the rules of the action that has begun say. */
  readonly timeoutMs: number;
  /** Puts the call under the limits of its action; throws ResourceExhausted. */
  begin(action: Action): void;
  /** Has to be permitted until the call ends. */
  hold(grant: Grant): void;
  /** Waits until the caller has read enough of its earlier answers for one of so many bytes. Throws as the budget does. */
  room(bytes: number): Promise<void>;
}

/** A call as those see it who may end it. */
export interface RunningCall extends ActiveCall {
  readonly credential: Credential;
  /** The newest action that has begun. */
  readonly action: Action | undefined;
  /** What it has been permitted of a VM. */
  grantsOf(uuid: string): Iterable<Grant>;
  grants(): Iterable<Grant>;
  renew(principal: Principal): void;
  end(reason: Error): void;
}

export interface Calls {
  /**
   * Throws ResourceExhausted.
   *
   * @param onExpired the call's token has expired while it runs
   */
  open(
    context: CallContext<{ readonly credential: Credential }>,
    principal: Principal,
    onExpired?: (call: RunningCall) => void,
  ): ActiveCall;
  running(): Iterable<RunningCall>;
  readonly count: number;
}

export function createCalls(limits: CallLimits): Calls {
  const running = new Set<RunningCall>();
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
    open(context, principal, onExpired) {
      const user = principal.account.name;
      const release = [take(user, limits.maxConcurrent, "calls")];
      const end = new AbortController();
      const onAbort = () => end.abort(context.signal.reason);
      if (context.signal.aborted) onAbort();
      else context.signal.addEventListener("abort", onAbort);
      let { defaultTimeoutMs, maxTimeoutMs } = limits;
      let current = principal;
      let begun: Action | undefined;
      /** UUID of the VM → action and table → grant. */
      const granted = new Map<string, Map<string, Grant>>();
      const call: RunningCall = {
        get principal() {
          return current;
        },
        credential: context.principal.credential,
        signal: end.signal,
        get timeoutMs() {
          return Math.min(context.timeoutMs ?? defaultTimeoutMs, maxTimeoutMs);
        },
        get action() {
          return begun;
        },
        begin(action) {
          const { concurrent, timeoutMs } = rulesOf(action);
          begun = action;
          if (timeoutMs !== undefined) defaultTimeoutMs = maxTimeoutMs = timeoutMs;
          if (concurrent !== undefined) release.push(take(`${user} ${action}`, concurrent, `'${action}' calls`));
        },
        hold(grant) {
          const { uuid } = grant.vm;
          granted.set(uuid, (granted.get(uuid) ?? new Map()).set(`${grant.action} ${grant.table}`, grant));
        },
        grantsOf: (uuid) => granted.get(uuid)?.values() ?? [],
        *grants() {
          for (const each of granted.values()) yield* each.values();
        },
        renew(principal) {
          current = principal;
        },
        end: (reason) => end.abort(reason),
        async room(bytes) {
          if (bytes > smallAnswer) release.push(await answers.take(user, bytes, end.signal, call.timeoutMs));
        },
        [Symbol.dispose]() {
          running.delete(call);
          clearTimeout(expiry);
          context.signal.removeEventListener("abort", onAbort);
          context.whenAnswered(() => {
            for (const each of release.splice(0)) each();
          });
        },
      };
      running.add(call);
      const expiry = timerAt(principal.tokenExpiresMs, () => onExpired?.(call));
      return call;
    },
    running: () => running,
    get count() {
      return running.size;
    },
  };
}

/** What a timer of Node can wait for; no call lasts as long. */
const maxTimerMs = 2 ** 31 - 1;

/** `atMs` 0: never. */
function timerAt(atMs: number, run: () => void): NodeJS.Timeout | undefined {
  const left = atMs - Date.now();
  return atMs === 0 || left > maxTimerMs ? undefined : setTimeout(run, left).unref();
}
