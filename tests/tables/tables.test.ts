// Every table equal to the guest's own truth, on a guest that has something in each: on the newest kernel of each flavour
// that Debian offers. The oldest ones too: npm run matrix.
import assert from "node:assert/strict";
import { after, before, suite, type TestContext, test } from "node:test";
import { type Guest, tables } from "../../vmi/index.ts";
import { Subject } from "../engine/support.ts";
import { comparisons, NotApplicable, settle } from "./comparison.ts";
import { exceptions, runExamples } from "./examples.ts";
import { everyKernel } from "./matrix.ts";

const all = await comparisons();

suite("tables", { concurrency: 2 }, () => {
  for (const kernel of everyKernel.filter(({ release }) => release === "latest")) {
    suite(`Linux ${kernel.kernel} ${kernel.flavour}`, { concurrency: 1 }, () => {
      let subject: Subject;
      let guest: Guest;
      before(async () => {
        subject = await Subject.boot({
          ...kernel,
          workload: "full",
          vcpus: 2,
          name: `tables-${kernel.kernel}-${kernel.flavour}`,
        });
        guest = await subject.attach();
      });
      after(() => subject?.[Symbol.asyncDispose]());
      for (const comparison of all) {
        test(comparison.table, async (t: TestContext) => {
          const result = await settle(comparison, subject, guest);
          t.diagnostic(result instanceof NotApplicable ? `not applicable: ${result.why}` : result);
        });
      }
      test("examples", async (t: TestContext) => t.diagnostic(await runExamples(guest)));
    });
  }
});

test("every comparison is of a table that there is", () => {
  const names = new Set(tables.map(({ name }) => name));
  for (const { table } of all) assert.ok(names.has(table), table);
});

test("every exception is of an example that there is", () => {
  const examples = new Set(tables.flatMap((table) => table.examples));
  for (const example of exceptions) assert.ok(examples.has(example), example);
});
