/** Without a question for so long, an inspector is at rest. Longer than the seconds at which guests are polled. */
export const REST_MS = 10_000;

/**
 * Gives back the memory that questions have used, once there are no more for a while: a host runs a hundred inspectors, and
 * while one works it may use what makes it fast.
 *
 * @returns to be called with every question
 */
export function createIdleCollector(): () => void {
  const { gc } = globalThis;
  if (gc === undefined) return () => {};
  // "last-resort" also shrinks the young generation, which "regular" leaves as it is.
  const timer = setTimeout(() => gc({ type: "major", execution: "sync", flavor: "last-resort" }), REST_MS);
  timer.unref();
  return () => void timer.refresh();
}
