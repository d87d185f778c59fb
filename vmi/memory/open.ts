import type { GuestMemoryLayout } from "../driver/driver.ts";
import { mapMemory } from "./mapped-memory.ts";
import { PagedMemory, readerOf } from "./paged-memory.ts";
import type { PhysicalMemory } from "./physical-memory.ts";

/** Opens a guest's RAM by the best means its backings allow. The descriptors stay the caller's. */
export function openMemory(layout: GuestMemoryLayout): PhysicalMemory {
  checkLayout(layout);
  return layout.backings.every((backing) => backing.kind !== "process")
    ? mapMemory(layout)
    : new PagedMemory(layout, readerOf(layout.backings));
}

function checkLayout(layout: GuestMemoryLayout): void {
  let end = 0;
  for (const range of layout.ranges) {
    const aligned = range.gpa % 4096 === 0 && range.length % 4096 === 0 && range.length > 0;
    if (!aligned || range.gpa < end || layout.backings[range.backing] === undefined) {
      throw new Error(
        `RAM range at 0x${range.gpa.toString(16)} of ${range.length} bytes is misaligned, overlaps or has no backing`,
      );
    }
    end = range.gpa + range.length;
  }
  if (end === 0) throw new Error("the layout has no RAM");
}
