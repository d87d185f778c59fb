import { formatHalves, type Halves } from "../bytes/address.ts";
import { sameAddress } from "../linux/read.ts";
import { symbol } from "../symbols/specs.ts";
import { type CheckContext, defineCheck } from "./check.ts";
import { credentialsSeen, type SeenProcess } from "./credentials-seen.ts";

/** kernel/cred.c: those of the kernel's first task. */
const initCred = symbol("?init_cred");

export const sharedCredentials = defineCheck({
  name: "shared-credentials",
  severity: "critical",
  cost: "walk",
  compares:
    "The struct cred of every thread with those of all others, and with the kernel's own (init_cred). Only the threads of " +
    "one process share one: a new process gets a copy (copy_creds), and so does whoever changes ids. A task's pointer that " +
    "was set to another's, the shortest way to root, shows as a structure that two processes have.",
  misses:
    "Credentials that were copied before they were given: see raised-credentials. What a task only acts with (task_struct.cred " +
    "beside real_cred) is another's for a moment where the kernel works for somebody else, as io_uring does with credentials " +
    "that were registered: seen twice, that is reported, as high.",
  confirm:
    "SELECT cred, pid FROM process_credentials: the address is there twice. In the guest, /proc/PID/status shows the ids " +
    "that the process came to have.",
  reads: ["init_task", "task_struct.real_cred and cred", "signal_struct", "init_cred"],
  look: (context) => {
    const processes = context.shared(credentialsSeen);
    const kernels = context.kernel.optionalPlace(initCred);
    const owners = new Map<string, SeenProcess[]>();
    for (const process of processes) {
      for (const key of new Set(process.threads.map(({ cred }) => keyOf(cred.at))))
        owners.set(key, [...(owners.get(key) ?? []), process]);
    }
    for (const process of processes) {
      if (process.kernelThread) continue;
      for (const { tid, cred, acting } of process.threads) {
        if (kernels !== undefined && sameAddress(cred.at, kernels)) {
          report(context, process, tid, cred.at, { what: "the kernel's own (init_cred)", whose: "init_cred" });
          continue;
        }
        const other = owners.get(keyOf(cred.at))?.find(({ pid }) => pid !== process.pid);
        // Of two, the one that came later has what was the other's; threads of the kernel have no reason to take a process's.
        if (other !== undefined && (other.kernelThread || other.pid < process.pid)) {
          report(context, process, tid, cred.at, ofProcess(other));
          continue;
        }
        if (acting === undefined) continue;
        if (kernels !== undefined && sameAddress(acting, kernels)) {
          const whose = { what: "the kernel's own (init_cred)", whose: "init_cred" };
          report(context, process, tid, acting, whose, "acts with");
          continue;
        }
        const lender = owners.get(keyOf(acting))?.find(({ pid }) => pid !== process.pid);
        if (lender !== undefined) report(context, process, tid, acting, ofProcess(lender), "acts with");
      }
    }
  },
});

interface Owner {
  readonly what: string;
  /** For the identity. */
  readonly whose: string;
}

function ofProcess({ pid, name }: SeenProcess): Owner {
  return { what: `those of process ${pid} (${name})`, whose: name };
}

function report(
  context: CheckContext,
  { pid, name }: SeenProcess,
  tid: number,
  at: Halves,
  { what, whose }: Owner,
  does: "has" | "acts with" = "has",
): void {
  const thread = tid === pid ? "" : `, thread ${tid}`;
  const member = does === "has" ? "real_cred" : "cred";
  context.report({
    what: `process ${pid} (${name}) ${does} credentials that are ${what}`,
    where: `task_struct.${member} of process ${pid} (${name})${thread}`,
    evidence: `${member} points to ${formatHalves(at.hi, at.lo)}: ${what}`,
    expected: "a struct cred that only threads of the same process have",
    identity: `${name} ${does} ${whose}`,
    severity: does === "has" ? "critical" : "high",
    pid,
    address: at,
  });
}

const keyOf = ({ hi, lo }: Halves) => `${hi}:${lo}`;
