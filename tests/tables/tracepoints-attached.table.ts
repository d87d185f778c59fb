// tracepoints_attached against tracefs' set_event of its top and an instance, and bpf(2)'s links.
import assert from "node:assert/strict";
import { read } from "../engine/support.ts";
import { bpfTruth, LINK_TYPES } from "./bpf-truth.ts";
import type { Comparison } from "./comparison.ts";

const TRACING = "/sys/kernel/tracing";

export const comparison: Comparison = {
  table: "tracepoints_attached",
  async compare(subject, guest) {
    const rows = read(guest, "tracepoints_attached");
    const enabled = async (folder: string, instance: string) => {
      const events = (await subject.lab.exec(`cat ${folder}/set_event`)).split("\n");
      // Events of probes and system calls have no tracepoint of their own.
      return events
        .filter((event) => event !== "" && !/^(lab|syscalls):/.test(event))
        .map((event) => [instance, event]);
    };
    const told = [...(await enabled(TRACING, "")), ...(await enabled(`${TRACING}/instances/lab`, "lab"))];
    const events = rows.filter((row) => row.event !== null).map((row) => [row.instance, row.event]);
    assert.deepEqual(events.sort(), told.sort());
    assert.ok(events.some(([instance, event]) => instance === "lab" && event === "sched:sched_process_fork"));
    assert.ok(events.some(([instance, event]) => instance === "" && event === "signal:signal_generate"));
    const ofModule = rows.find((row) => row.tracepoint_module !== null);
    assert.equal(ofModule?.tracepoint, "virtio_transport_alloc_pkt");
    assert.equal(ofModule.tracepoint_module, ofModule.module);

    const { links } = await bpfTruth(subject);
    const programs = rows.filter((row) => row.program_id !== null).map((row) => [row.tracepoint, row.program_id]);
    const raw = links.filter((link) => link.type === LINK_TYPES.raw_tracepoint);
    assert.deepEqual(
      programs,
      raw.map((link) => [link.target, link.program_id]),
    );
    assert.equal(programs[0]![0], "sched_process_exit");
    assert.ok(rows.some((row) => row.symbol === "perf_trace_sched_process_exec"));
    return `${rows.length} rows`;
  },
};
