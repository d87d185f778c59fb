import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { create, fromBinary, toBinary, toJsonString } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import fc from "fast-check";
import {
  GetRegistersResponseSchema,
  LookupSymbolsRequestSchema,
  ReadMemoryRequestSchema,
  ScanRequestSchema,
} from "../proto/gen/cloudvmi/v1/guest_pb.ts";
import { checkRequest, countJson, countValues } from "./request-limits.ts";

const limits = { bytes: 1000, values: 20 };

function refused(request: Uint8Array, json = false): Code | undefined {
  try {
    checkRequest("a/b", ReadMemoryRequestSchema, request, limits, json);
    return undefined;
  } catch (error) {
    return ConnectError.from(error).code;
  }
}

/** `times` the bytes, one behind the other. */
const repeat = (bytes: number[], times: number): Uint8Array => Uint8Array.from(Array(times).fill(bytes).flat());

test("values of every depth count, lists side by side and what is unknown too", () => {
  const items = [{ space: { space: { case: "pid" as const, value: 1 } }, address: 5n, length: 7 }, {}];
  // vm and its uuid; two items, of which one has a space, its pid, an address and a length.
  const read = create(ReadMemoryRequestSchema, { vm: { uuid: "u" }, items });
  assert.equal(countValues(ReadMemoryRequestSchema, toBinary(ReadMemoryRequestSchema, read), 100), 8);
  const symbols = create(LookupSymbolsRequestSchema, { names: ["a", "b"], addresses: [1n, 2n, 3n] });
  assert.equal(countValues(LookupSymbolsRequestSchema, toBinary(LookupSymbolsRequestSchema, symbols), 100), 6);
  const scan = create(ScanRequestSchema, { pids: [1, 300, -1], rules: [{ name: "r", source: "x" }] });
  assert.equal(countValues(ScanRequestSchema, toBinary(ScanRequestSchema, scan), 100), 7);
  // pids one by one, as some encoders write them.
  assert.equal(countValues(ScanRequestSchema, repeat([0x20, 1], 30), 100), 30);
  assert.equal(countValues(ReadMemoryRequestSchema, repeat([0x78, 1], 30), 100), 30);
  const registers = create(GetRegistersResponseSchema, { vcpus: [{ index: 0, registers: { rip: 1n, rsp: 2n } }] });
  assert.ok(countValues(GetRegistersResponseSchema, toBinary(GetRegistersResponseSchema, registers), 100)! >= 5);
});

describe("many small values are refused before they are decoded", () => {
  const cases: [string, Uint8Array][] = [
    ["empty items", repeat([0x12, 0], 30)],
    ["a message that is written again and again", Uint8Array.from([0x12, 60, ...repeat([0x0a, 0], 30)])],
    ["unknown fields", repeat([0x78, 1], 30)],
    ["unknown texts", repeat([0x7a, 0], 30)],
  ];
  for (const [name, request] of cases) test(name, () => assert.equal(refused(request), Code.ResourceExhausted));
  test("as JSON", () => {
    const json = (text: string) => refused(Buffer.from(text), true);
    assert.equal(json(`{"items":[${"{},".repeat(30)}{}]}`), Code.ResourceExhausted);
    assert.equal(json("[".repeat(30)), Code.ResourceExhausted);
    assert.equal(json(`{"vm":{"uuid":"${"{,[".repeat(30)}"}}`), undefined);
    assert.equal(json(`{"vm":{"uuid":"\\"${",\\\\".repeat(30)}"}}`), undefined);
  });
  test("too many bytes, of whatever", () => {
    assert.equal(refused(new Uint8Array(1001)), Code.ResourceExhausted);
  });
});

describe("what a decoder would read otherwise than it is counted is malformed", () => {
  const blob = [...repeat([0x12, 0], 100)];
  const cases: [string, number[]][] = [
    ["a number written as bytes", [0x12, 104, 0x12, 102, 100, ...blob]],
    ["bytes written as a number", [0x0a, 0x02, 0x08, 0x00, ...blob.fill(0x10)]],
    ["a group", [0x13, ...repeat([0x12, 0], 30), 0x14]],
    ["a message longer than what it is in", [0x12, 2, 0x0a, 40, ...repeat([0x0a, 0], 30)]],
    ["field number 0", [...repeat([0x02, 0], 30)]],
    ["a length that does not end", [0x12, ...Array(30).fill(0xff)]],
    ["cut short", [...repeat([0x08], 21), 0x12, 40, 1]],
  ];
  for (const [name, request] of cases) {
    test(name, () => assert.equal(refused(Uint8Array.from(request)), Code.InvalidArgument));
  }
});

test("property: what is encoded properly is counted, and no JSON of it has more than twice as many", () => {
  const item = fc.record({
    space: fc.option(fc.record({ space: fc.record({ case: fc.constant("pid" as const), value: fc.integer() }) })),
    address: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
    length: fc.nat(),
  });
  fc.assert(
    fc.property(fc.array(item), fc.string(), (items, uuid) => {
      const some = items.map(({ space, ...rest }) => (space === null ? rest : { space, ...rest }));
      const request = create(ReadMemoryRequestSchema, { vm: { uuid }, items: some });
      const count = countValues(ReadMemoryRequestSchema, toBinary(ReadMemoryRequestSchema, request), 1e6)!;
      assert.ok(count >= items.length);
      const json = Buffer.from(toJsonString(ReadMemoryRequestSchema, request));
      assert.ok(countJson(json) <= 2 * count + 8);
    }),
  );
});

test("property: of bytes that pass, the decoder makes no more than was counted", () => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom(0x0a, 0x12, 0x1a, 0x20, 0x22, 0, 1, 2, 3, 8, 0x80), { maxLength: 60 }),
      (list) => {
        const bytes = Uint8Array.from(list);
        for (const schema of [ReadMemoryRequestSchema, ScanRequestSchema]) {
          const count = countValues(schema, bytes, 1000);
          if (count === undefined) continue;
          const decoded = fromBinary(schema, bytes);
          assert.ok(sizeOf(decoded) <= count, `${list}`);
        }
      },
    ),
    { numRuns: 3000 },
  );
});

/** Elements of lists and unknown fields in a message, at every depth. */
function sizeOf(value: unknown): number {
  if (value instanceof Uint8Array || typeof value !== "object" || value === null) return 0;
  const inner = Object.values(value).reduce((sum: number, each) => sum + sizeOf(each), 0);
  return Array.isArray(value) ? value.length + inner : inner;
}
