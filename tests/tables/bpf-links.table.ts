// bpf_links against the guest's own bpf(2).
import assert from "node:assert/strict";
import { read } from "../engine/support.ts";
import { bpfTruth, LINK_TYPES, numberOfType } from "./bpf-truth.ts";
import type { Comparison } from "./comparison.ts";

export const comparison: Comparison = {
  table: "bpf_links",
  async compare(subject, guest) {
    const rows = read(guest, "bpf_links");
    const { links } = await bpfTruth(subject);
    const seen = rows.map(({ link: _link, ...row }) => ({
      ...row,
      type: numberOfType(LINK_TYPES, row.type),
      // The info of a tracing link has no name.
      target: row.type === "raw_tracepoint" ? row.target : "",
      pids: row.pids ?? "",
    }));
    assert.deepEqual(seen, links);
    const targets = new Map(rows.map((row) => [row.type, row.target]));
    assert.equal(targets.get("raw_tracepoint"), "sched_process_exit");
    for (const type of ["cgroup", "perf_event"]) assert.equal(targets.get(type), null);
    // Where the kernel can attach one.
    if (targets.has("tracing")) assert.equal(targets.get("tracing"), "vfs_symlink");
    return `${rows.length} rows`;
  },
};
