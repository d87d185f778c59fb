// process_capabilities against the Cap lines of /proc/PID/status.
import assert from "node:assert/strict";
import { compareByProcess, findByArgument, statusOf } from "./by-process.ts";
import type { Comparison } from "./comparison.ts";

export const comparison: Comparison = {
  table: "process_capabilities",
  async compare(subject, guest) {
    const names = new Map<number, string>();
    const { rows, processes } = await compareByProcess(
      subject,
      guest,
      "process_capabilities",
      (process) => ["CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"].map((set) => statusOf(process, set)),
      ([row], process) => {
        names.set(process.pid, row!.effective_names as string);
        return [row!.effective, row!.permitted, row!.inheritable, row!.bounding, row!.ambient] as string[];
      },
    );
    // CAP_NET_BIND_SERVICE and CAP_NET_RAW: bits 10 and 13, raised to the ambient set by the workload.
    const confined = findByArgument(processes, "confined");
    assert.equal(statusOf(confined, "CapAmb"), "0000000000002400");
    assert.equal(names.get(confined.pid), "net_bind_service,net_raw");
    assert.equal(names.get(1)!.split(",").length, BigInt(`0x${statusOf(processes[0]!, "CapEff")}`).toString(2).length);
    return `${rows} rows`;
  },
};
