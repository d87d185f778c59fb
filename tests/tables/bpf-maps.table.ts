// bpf_maps against the guest's own bpf(2) and fdinfo.
import assert from "node:assert/strict";
import { read, textIn } from "../engine/support.ts";
import { bpfTruth, MAP_TYPES, numberOfType } from "./bpf-truth.ts";
import type { Comparison } from "./comparison.ts";

export const comparison: Comparison = {
  table: "bpf_maps",
  async compare(subject, guest) {
    const rows = read(guest, "bpf_maps");
    const { maps } = await bpfTruth(subject);
    const seen = rows.map(({ map, ...row }) => {
      assert.match(String(map), /^0xff/);
      return { ...row, type: numberOfType(MAP_TYPES, row.type), pids: row.pids ?? "" };
    });
    assert.deepEqual(seen, maps);
    const own = rows.filter((row) => textIn(row, "name").startsWith("lab_"));
    assert.deepEqual(
      own.map((row) => [row.name, row.frozen]),
      [
        ["lab_array", 1],
        ["lab_hash", 0],
        ["lab_counters", 0],
      ],
    );
    return `${rows.length} rows`;
  },
};
