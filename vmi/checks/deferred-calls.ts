import { halvesOf } from "../linux/mm.ts";
import { timersAndWorkqueues } from "../tables/timers-and-workqueues.ts";
import { defineCheck } from "./check.ts";
import { callbackSeverity, codeOwner, TAINTS_ARE_TRUSTED } from "./code-owner.ts";

/** Works that are held back or done at the moment come and go: they are seen twice only if they stay. */
const KINDS = ["timer", "delayed_work", "hrtimer", "work", "inactive_work", "running_work"];

export const deferredCalls = defineCheck({
  name: "deferred-calls",
  severity: "critical",
  cost: "walk",
  compares:
    "The function of each timer, and of each work that waits in a workqueue or is being done, and whose code that is: a " +
    "module that did not come with the kernel, or code in no module, will be called again and again without a process or a hook.",
  misses:
    "What is done between two looks: a work that is queued and done at once. Tasklets, RCU callbacks and io_uring's work " +
    "are not looked at. Drivers from out of the kernel's tree have timers too, and are reported with severity medium. " +
    TAINTS_ARE_TRUSTED,
  confirm:
    "SELECT kind, address, symbol, module, object FROM timers_and_workqueues WHERE kind <> 'workqueue' AND (module IS NULL " +
    "OR module <> '').",
  reads: [
    "timer_bases",
    "hrtimer_bases",
    "workqueues",
    "worker_pool_idr",
    "timer_list, hrtimer, work_struct",
    "modules",
  ],
  look: (context) => {
    const rows = context.rows(timersAndWorkqueues, {
      columns: ["kind", "address", "object", "cpu"],
      where: [{ column: "kind", values: KINDS }],
    });
    for (const { kind, address, object, cpu } of rows) {
      if (address === undefined) continue;
      const at = halvesOf(BigInt(address));
      const owner = codeOwner(context, at);
      const severity = callbackSeverity(owner, "medium");
      if (severity === undefined) continue;
      const what = String(kind).replace("_", " ");
      context.report({
        what: `a ${what} calls ${owner.text}`,
        where: `${what} at ${object}${cpu === undefined || cpu === -1 ? "" : ` of CPU ${cpu}`}`,
        evidence: `calls ${address}`,
        expected: "a function of the kernel, or of a module that came with it",
        identity: `${kind} ${owner.name}`,
        severity,
        address: at,
      });
    }
  },
});
