// What large answers may take of control's memory until their callers have read them.
import { Code, ConnectError } from "@connectrpc/connect";

export interface BudgetLimits {
  /** Bytes of one user's answers. */
  readonly perUser: number;
  /** Bytes of all users' answers. */
  readonly total: number;
}

export interface AnswerBudget {
  /**
   * Waits until an answer of so many bytes may be made for the user. Returns how to give the bytes back. A user who holds
   * none gets one answer whatever others hold. Throws the signal's reason, or DeadlineExceeded.
   */
  take(user: string, bytes: number, signal: AbortSignal, timeoutMs: number): Promise<() => void>;
}

interface Waiter {
  readonly user: string;
  readonly bytes: number;
  admit(): void;
}

export function createAnswerBudget({ perUser, total }: BudgetLimits): AnswerBudget {
  const held = new Map<string, number>();
  const waiters = new Set<Waiter>();
  let all = 0;

  function fits(user: string, bytes: number): boolean {
    const mine = held.get(user);
    return mine === undefined || (mine + bytes <= perUser && all + bytes <= total);
  }

  function hold(user: string, bytes: number): () => void {
    held.set(user, (held.get(user) ?? 0) + bytes);
    all += bytes;
    return () => {
      all -= bytes;
      const left = held.get(user)! - bytes;
      if (left === 0) held.delete(user);
      else held.set(user, left);
      for (const waiter of waiters) if (fits(waiter.user, waiter.bytes)) waiter.admit();
    };
  }

  return {
    take(user, bytes, signal, timeoutMs) {
      if (fits(user, bytes)) return Promise.resolve(hold(user, bytes));
      return new Promise((resolve, reject) => {
        const leave = (): void => {
          waiters.delete(waiter);
          clearTimeout(timer);
          signal.removeEventListener("abort", onAbort);
        };
        const waiter: Waiter = {
          user,
          bytes,
          admit() {
            leave();
            resolve(hold(user, bytes));
          },
        };
        const onAbort = (): void => {
          leave();
          reject(ConnectError.from(signal.reason, Code.Canceled));
        };
        const onLate = (): void => {
          leave();
          reject(new ConnectError("your earlier answers wait to be read: read them first", Code.DeadlineExceeded));
        };
        const timer = setTimeout(onLate, timeoutMs);
        waiters.add(waiter);
        if (signal.aborted) onAbort();
        else signal.addEventListener("abort", onAbort);
      });
    },
  };
}
