import { formatAddress } from "../bytes/address.ts";
import { walkIomem } from "../linux/resource.ts";
import { CELL } from "./columns.ts";
import { defineTable, integer, text } from "./table.ts";

/** One row a range of guest physical addresses: /proc/iomem. */
export const memoryMap = defineTable({
  name: "memory_map",
  description: "Physical address ranges and what the kernel uses them for",
  columns: {
    name: text("What the range is: System RAM, Kernel code, a device, …"),
    start: text("First address"),
    end: text("Last address"),
    depth: integer("0 for a range of its own, 1 for one within the last of depth 0, and so on"),
    size: integer("Bytes"),
  },
  cost: "walk",
  reads: ["iomem_resource", "resource"],
  examples: ["SELECT name, start, size FROM memory_map WHERE depth = 0"],
  generate: (context, out) => {
    for (const entry of walkIomem(context.kernel, context.budget)) {
      if (entry === undefined) {
        context.incomplete("the resource tree could not be followed to its end");
        return;
      }
      out.name?.pushOr(entry.name, CELL.unreadable);
      out.start?.push(formatAddress(entry.start));
      out.end?.push(formatAddress(entry.end));
      out.depth?.push(entry.depth);
      out.size?.pushOr(Number(entry.end - entry.start + 1n), CELL.unreadable);
      if (!context.row()) return;
    }
  },
});
