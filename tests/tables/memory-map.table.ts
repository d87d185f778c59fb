// memory_map against /proc/iomem.
import { compareMemoryMap } from "../engine/kernel.ts";
import { read } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";

export const comparison: Comparison = {
  table: "memory_map",
  async compare(subject, guest) {
    const rows = read(guest, "memory_map");
    compareMemoryMap(rows, await subject.lab.truth());
    return `${rows.length} rows`;
  },
};
