/** Optimal string alignment distance: insertions, deletions, substitutions and swaps of neighbours cost 1. */
function distance(from: string, to: string): number {
  let before: number[] = [];
  let previous = Array.from({ length: to.length + 1 }, (_, at) => at);
  for (let row = 1; row <= from.length; row++) {
    const current = [row];
    for (let at = 1; at <= to.length; at++) {
      const same = from[row - 1] === to[at - 1] ? 0 : 1;
      let best = Math.min(previous[at]! + 1, current[at - 1]! + 1, previous[at - 1]! + same);
      if (row > 1 && at > 1 && from[row - 1] === to[at - 2] && from[row - 2] === to[at - 1]) {
        best = Math.min(best, before[at - 2]! + 1);
      }
      current.push(best);
    }
    before = previous;
    previous = current;
  }
  return previous[to.length]!;
}

/** The known name that was probably meant, when one is near enough. */
export function nearest(name: string, known: Iterable<string>): string | undefined {
  const wanted = name.toLowerCase().slice(0, 64);
  let best: { candidate: string; cost: number } | undefined;
  for (const candidate of known) {
    const lower = candidate.toLowerCase();
    // A beginning that was not finished is nearer than its length tells.
    const cost = wanted.length >= 3 && lower.startsWith(wanted) ? 0.5 : distance(wanted, lower.slice(0, 64));
    if (best === undefined || cost < best.cost) best = { candidate, cost };
  }
  return best !== undefined && best.cost <= Math.max(1, Math.floor(wanted.length / 3)) ? best.candidate : undefined;
}
