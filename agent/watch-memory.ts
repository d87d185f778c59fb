/** The memory that an inspector takes for itself, looked at from outside. */
import { readFileSync } from "node:fs";

/** How often the memory of an inspector is looked at: while it works, and always, as one that a guest has taken over may grow at rest. */
const WORK_MS = 200;
const ALWAYS_MS = 5000;
/** As the kernel names its processes. */
const bubblewrap = "bwrap";

/**
 * Calls `over` at each look at which the private memory is above the limit; it looks more often while requests are worked on.
 * @param launched the process that was started, which may be bubblewrap; undefined: none could be.
 */
export function watchMemory(launched: number | undefined, limitMiB: number, over: () => void) {
  let busy = 0;
  let inspector: number | undefined;
  const look = () => {
    const pid = inspector ?? (launched === undefined ? undefined : leafOf(launched));
    const seen = pid === undefined ? undefined : statusOf(pid);
    if (!seen) return;
    // On a busy host the first look may come before bubblewrap has started anything.
    if (seen.name !== bubblewrap) inspector = pid;
    if (seen.privateMiB > limitMiB) over();
  };
  const always = setInterval(look, ALWAYS_MS).unref();
  let timer: NodeJS.Timeout | undefined;
  return {
    begin(): () => void {
      busy++;
      timer ??= setInterval(look, WORK_MS).unref();
      return () => {
        busy--;
        if (busy > 0) return;
        clearInterval(timer);
        timer = undefined;
      };
    },
    close() {
      clearInterval(always);
      clearInterval(timer);
    },
  };
}

/** bubblewrap stays between us and the inspector: the last in the line of children is the inspector itself. */
function leafOf(pid: number): number | undefined {
  let leaf = pid;
  for (let depth = 0; depth < 4; depth++) {
    try {
      const child = Number.parseInt(readFileSync(`/proc/${leaf}/task/${leaf}/children`, "latin1"), 10);
      if (Number.isNaN(child)) break;
      leaf = child;
    } catch {
      return undefined;
    }
  }
  return leaf;
}

/** A process's name, and its anonymous memory: what it shares with the guest is not its own. Undefined when it is gone. */
function statusOf(pid: number): { name: string; privateMiB: number } | undefined {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "latin1");
    const name = /^Name:\t(.*)$/m.exec(status)?.[1] ?? "";
    return { name, privateMiB: Number(/^RssAnon:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) / 1024 };
  } catch {
    return undefined;
  }
}
