/**
 * Work that tells how something is now: while it runs, any number of calls wait for one more run, which begins when this
 * one has ended.
 */
export function coalesced(work: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | undefined;
  let waiting: Promise<void> | undefined;
  const again = () => {
    waiting = undefined;
    return run();
  };
  const run = (): Promise<void> => {
    if (running) {
      waiting ??= running.then(again, again);
      return waiting;
    }
    running = work().finally(() => {
      running = undefined;
    });
    return running;
  };
  return run;
}
