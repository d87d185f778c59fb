// Every example of every table is a statement that runs, here over empty tables: names are right, and nothing is asked of a
// table that it can't answer. tests/tables/examples.ts runs them over a guest.
import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { suite, test } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { QueryResponseSchema } from "../../proto/gen/cloudvmi/v1/sql_pb.ts";
import { runSql } from "../../sql/index.ts";
import { tables } from "../../vmi/index.ts";

const catalogue = tables.map(({ name, columns, required }) => ({
  name,
  columns: Object.entries(columns).map(([column, { kind }]) => ({ name: column, type: kind })),
  required,
}));

suite("examples", { concurrency: 4 }, () => {
  for (const { name, examples } of tables) {
    test(name, async () => {
      assert.ok(examples.length > 0, "a table has an example");
      for (const example of examples) {
        const answer = runSql(example.replace(/;\s*$/, ""), {
          tables: catalogue,
          vms: ["web1"],
          read: () => Readable.from([]),
        });
        let columns = 0;
        for await (const bytes of answer) columns += fromBinary(QueryResponseSchema, bytes).columns.length;
        assert.ok(columns > 0, example);
        assert.ok(new RegExp(`\\b${name}\\b`).test(example), `${example}: it must be about ${name}`);
        const joins = example.match(/\bJOIN\b/gi)?.length ?? 0;
        const byVm = example.match(/\bUSING \(vm, |\bON \w+\.vm = \w+\.vm AND /g)?.length ?? 0;
        assert.equal(byVm, joins, `${example}: rows of different VMs must not meet`);
        assert.doesNotMatch(example, /\bFROM [^()]*,[^()]* WHERE\b/, `${example}: a join is written with JOIN`);
      }
    });
  }
});

test("tables that show contents of memory need `read`", () => {
  const needing = tables.filter(({ permission }) => permission === "read").map(({ name }) => name);
  assert.deepEqual(needing.sort(), ["file_contents", "process_envs", "shell_history"]);
});
