// Every example of every table is a statement that runs, here over empty tables: names are right, and nothing is asked of a
// table that it can't answer. tests/tables runs them over a guest.
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
      }
    });
  }
});
