// loaded_bpf_programs against the guest's own bpf(2).
import assert from "node:assert/strict";
import { read, textIn } from "../engine/support.ts";
import { bpfTruth, numberOfType, PROGRAM_TYPES } from "./bpf-truth.ts";
import type { Comparison } from "./comparison.ts";

const NAMES = ["lab_calls", "lab_egress", "lab_fentry", "lab_filter", "lab_kprobe", "lab_raw", "lab_tracepoint"];

export const comparison: Comparison = {
  table: "loaded_bpf_programs",
  async compare(subject, guest) {
    const rows = read(guest, "loaded_bpf_programs");
    const { programs } = await bpfTruth(subject);
    const seen = rows.map((row) => ({
      type: numberOfType(PROGRAM_TYPES, row.type),
      id: row.id,
      tag: row.tag,
      jited_size: row.jited_size,
      xlated_size: row.xlated_size,
      load_time: row.load_time,
      uid: row.uid,
      maps: row.maps,
      name: row.name,
      verified: row.verified_instructions,
      pids: row.pids ?? "",
    }));
    assert.deepEqual(seen, programs);
    const own = rows.filter((row) => textIn(row, "name").startsWith("lab_"));
    assert.deepEqual(own.map((row) => row.name).sort(), NAMES);
    for (const row of own) {
      assert.equal(row.jited, 1);
      // Code is made at run time, in the kernel's own 2 GiB.
      assert.match(textIn(row, "jited_address"), /^0xffffffff[c-f]/);
      const target = row.name === "lab_fentry" ? ["vfs_symlink", "vmlinux"] : [null, null];
      assert.deepEqual([row.attach_function, row.attach_object], target);
    }
    assert.deepEqual(read(guest, "loaded_bpf_programs", { where: [{ column: "id", values: [String(rows[1]!.id)] }] }), [
      rows[1],
    ]);
    return `${rows.length} rows`;
  },
};
