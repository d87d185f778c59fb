// Every table equal to the guest's own truth, on a guest that has something in each: on four of the newest kernels
// that Debian offers. All of them: npm run matrix.
import assert from "node:assert/strict";
import { after, before, suite, type TestContext, test } from "node:test";
import { type Guest, tables } from "../../vmi/index.ts";
import { Subject } from "../engine/support.ts";
import { comparisons, NotApplicable, RETRIED_SHARE, settle } from "./comparison.ts";
import { exceptions, runExamples } from "./examples.ts";
import { everyKernel, titleOf } from "./matrix.ts";

const all = await comparisons();
/** Both series, and every flavour. */
const chosen = ["6.1 cloud latest", "6.1 generic latest", "6.12 cloud latest", "6.12 rt latest"];

suite("tables", { concurrency: 1 }, () => {
  for (const kernel of everyKernel.filter((each) => chosen.includes(titleOf(each)))) {
    suite(`Linux ${kernel.kernel} ${kernel.flavour}`, { concurrency: 1 }, () => {
      let subject: Subject;
      let guest: Guest;
      let retried = 0;
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
          const { result, attempts, failures } = await settle(comparison, subject, guest);
          const told = result instanceof NotApplicable ? `not applicable: ${result.why}` : result;
          t.diagnostic(`${told}, in attempt ${attempts}`);
          for (const failure of failures) t.diagnostic(failure);
          if (attempts > 1) retried++;
        });
      }
      test("few comparisons needed more than one attempt", () => {
        assert.ok(retried <= all.length * RETRIED_SHARE, `${retried} of ${all.length}`);
      });
      test("examples", async (t: TestContext) => t.diagnostic(await runExamples(guest)));
    });
  }
});

test("every table has one comparison, and every comparison is of a table", () => {
  assert.deepEqual(all.map(({ table }) => table).sort(), tables.map(({ name }) => name).sort());
});

test("every exception is of an example that there is", () => {
  const examples = new Set(tables.flatMap((table) => table.examples));
  for (const example of exceptions) assert.ok(examples.has(example), example);
});
