import { halvesOf } from "../linux/mm.ts";
import { kernelThreads as table } from "../tables/kernel-threads.ts";
import { defineCheck } from "./check.ts";
import { callbackSeverity, codeOwner, TAINTS_ARE_TRUSTED } from "./code-owner.ts";

export const kernelThreads = defineCheck({
  name: "kernel-threads",
  severity: "critical",
  cost: "walk",
  compares:
    "The function that each thread of the kernel was made to run, and whose code that is: a module that did not come with " +
    "the kernel, or code in no module. Their names are whatever their maker chose, often those of workers.",
  misses:
    "What a worker of a workqueue does is looked at by deferred-calls. Threads that are in no list of tasks are found by " +
    "the checks of hidden processes. Drivers from out of the kernel's tree (file systems, graphics) have threads too, and are " +
    "reported with severity medium. A thread that was made without struct kthread has no function that could be looked at. " +
    TAINTS_ARE_TRUSTED,
  confirm: "SELECT pid, name, function, symbol, module FROM kernel_threads WHERE module IS NOT NULL OR symbol IS NULL.",
  reads: [
    "init_task",
    "task_struct.worker_private (from 5.17: e32cf5dfbe22; before, set_child_tid)",
    "kthread",
    "modules",
  ],
  look: (context) => {
    const rows = context.rows(table, { columns: ["pid", "name", "function"] });
    for (const { pid, name, function: called } of rows) {
      if (called === undefined) continue;
      const address = halvesOf(BigInt(called));
      const owner = codeOwner(context, address);
      const severity = callbackSeverity(owner, "medium");
      if (severity === undefined) continue;
      context.report({
        what: `kernel thread ${pid} (${name}) runs ${owner.text}`,
        where: `process ${pid} (${name})`,
        evidence: `made to run ${called}`,
        expected: "a function of the kernel, or of a module that came with it",
        identity: `${name} ${owner.name}`,
        severity,
        pid: pid as number,
        address,
      });
    }
  },
});
