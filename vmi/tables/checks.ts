import { checks as catalogue } from "../checks/index.ts";
import { defineTable, text } from "./table.ts";

/** One row a check that this version has: of the program, not of the guest. */
export const checks = defineTable({
  name: "checks",
  description: "The checks that findings come from: one row a check, the same for every guest",
  columns: {
    name: text("Name, which is check_name of its findings"),
    severity: text("Of its worst findings: critical, high, medium, low, or info for what is no alarm"),
    cost: text("walk: follows the kernel's lists; scan: reads much memory; constant: the same whatever the guest does"),
    compares: text("What is compared with what, and what is found by it"),
    misses: text("What it can't see, and honest software that it reports"),
    confirm: text("How to confirm a finding by hand"),
    reads: text("Kernel structures and variables that it reads, with semicolons between"),
  },
  cost: "constant",
  reads: ["Nothing of the guest"],
  examples: [
    "SELECT name, severity, compares FROM checks",
    "SELECT c.name, count(f.what) AS findings FROM checks c LEFT JOIN findings f ON f.vm = c.vm AND f.check_name = c.name GROUP BY c.name",
  ],
  generate: (context, out) => {
    for (const { name, severity, cost, compares, misses, confirm, reads } of catalogue) {
      out.name?.push(name);
      out.severity?.push(severity);
      out.cost?.push(cost);
      out.compares?.push(compares);
      out.misses?.push(misses);
      out.confirm?.push(confirm);
      out.reads?.push(reads.join("; "));
      if (!context.row()) return;
    }
  },
});
