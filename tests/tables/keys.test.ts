// Every key of every table, on guests that stand still: the same rows as without the constraint, for less work.
import assert from "node:assert/strict";
import { suite, type TestContext, test } from "node:test";
import { tables } from "../../vmi/index.ts";
import { checkKeys } from "../../vmi/testing/keyed.ts";
import { Subject } from "../engine/support.ts";

suite("keys", { concurrency: 2 }, () => {
  for (const kernel of ["6.1", "6.12"] as const) {
    test(`Linux ${kernel}`, async (t: TestContext) => {
      await using subject = await Subject.boot({ kernel, workload: "full", vcpus: 2, name: `keys-${kernel}` });
      await subject.pause();
      const guest = await subject.attach();
      const tried: string[] = [];
      for (const table of tables) {
        const keys = checkKeys(guest, table);
        assert.ok(keys !== "unsupported", table.name);
        tried.push(...keys);
      }
      t.diagnostic(`${tried.length} keys: ${tried.join(", ")}`);
    });
  }
});
