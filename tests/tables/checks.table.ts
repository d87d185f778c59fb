// checks against the catalogue itself: they are the same for every guest.
import assert from "node:assert/strict";
import { checks } from "../../vmi/index.ts";
import { read } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";

export const comparison: Comparison = {
  table: "checks",
  async compare(_subject, guest) {
    const rows = read(guest, "checks");
    assert.deepEqual(
      rows,
      checks.map(({ look, reads, ...spec }) => ({ ...spec, reads: reads.join("; ") })),
    );
    return `${rows.length} rows`;
  },
};
