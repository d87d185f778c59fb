import assert from "node:assert/strict";
import { test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { Code } from "@connectrpc/connect";
import { QueryResponseSchema } from "../proto/gen/cloudvmi/v1/sql_pb.ts";
import { failure } from "../wire/testing.ts";
import { gather } from "./reading.ts";
import { sqlReading } from "./sql.ts";

async function* each<T>(items: readonly T[]): AsyncGenerator<T> {
  yield* items;
}

const integer = (value: bigint) => ({ values: [{ value: { case: "integer", value } as const }] });
const message = create(QueryResponseSchema, {
  columns: ["n"],
  rows: [integer(1n), integer(2n)],
  summary: { rows: 2n },
});

test("rows are the same from bytes and from messages, at once and one by one", async () => {
  for (const encoded of [message, toBinary(QueryResponseSchema, message)]) {
    assert.deepEqual(await sqlReading(() => each([encoded])).all(), [{ n: 1 }, { n: 2 }]);
    const seen: unknown[] = [];
    const reading = sqlReading(() => each([encoded]));
    for await (const { n } of reading) seen.push(n);
    assert.deepEqual(seen, [1, 2]);
    assert.equal((await reading.summary).rows, 2n);
  }
});

test("an answer that contradicts itself is refused with what is wrong with it", async () => {
  // A text of nine bytes in a value of two, in a row of four, and a row that says it is shorter than its value.
  const long = Uint8Array.of(0x12, 4, 0x0a, 2, 0x1a, 9, ...new Uint8Array(9));
  const short = Uint8Array.of(0x12, 2, 0x0a, 4, 0x1a, 2, 65, 65);
  const rubbish = new BinaryWriter().tag(9, WireType.LengthDelimited).uint32(99).finish();
  const answers: [Uint8Array, RegExp][] = [
    [long, /: a text runs past its value$/],
    [short, /: a row runs past its end$/],
    [rubbish, /: it is not valid protobuf$/],
  ];
  for (const [bytes, says] of answers) {
    const [code, text] = await failure(sqlReading(() => each([bytes])).all());
    assert.equal(code, Code.DataLoss);
    assert.match(text, says);
  }
});

test("more rows than can be held at once are refused, and no more are asked for", async () => {
  let asked = 0;
  async function* endless() {
    for (;;) {
      asked++;
      yield [1, 2, 3];
    }
  }
  assert.deepEqual(await failure(gather(endless(), 10)), [
    Code.ResourceExhausted,
    "too many rows to hold at once: read them one by one",
  ]);
  assert.equal(asked, 4);
});
