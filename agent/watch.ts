/** Tells an inspector that hangs from one that is busy. */

export interface Watch {
  /** A request has been passed on that may take so many milliseconds. Call what it returns when it has been answered. */
  begin(budgetMs: number): () => void;
  close(): void;
}

/**
 * Calls `hung` once when requests wait and none has been answered for as long as the most patient of them may take, and
 * `graceMs` more. A queue that moves is therefore never taken for a hang, however long it is; that a caller has given up
 * on a request does not end the wait for it.
 */
export function watchProgress(graceMs: number, hung: () => void, now: () => number = () => performance.now()): Watch {
  const pending = new Map<symbol, number>();
  let progress = 0;
  let timer: NodeJS.Timeout | undefined;
  const arm = () => {
    clearTimeout(timer);
    timer = undefined;
    if (pending.size === 0) return;
    const left = progress + Math.max(...pending.values()) + graceMs - now();
    timer = setTimeout(
      () => {
        if (now() >= progress + Math.max(...pending.values()) + graceMs) hung();
        else arm();
      },
      Math.max(left, 1),
    );
    timer.unref();
  };
  return {
    begin(budgetMs) {
      const key = Symbol();
      if (pending.size === 0) progress = now();
      pending.set(key, budgetMs);
      if (timer === undefined) arm();
      return () => {
        if (!pending.delete(key)) return;
        progress = now();
        if (pending.size === 0) arm();
      };
    },
    close() {
      pending.clear();
      clearTimeout(timer);
    },
  };
}
