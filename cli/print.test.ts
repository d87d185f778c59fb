import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { test } from "node:test";
import { createPrinter } from "./print.ts";

test("a list whose rows come one by one is printed as they come", async () => {
  let printed = "";
  const output = {
    isTerminal: false,
    columns: 80,
    write: async (chunk: string | Uint8Array) => {
      printed += String(chunk);
    },
  };
  const printer = createPrinter(
    { out: output, err: output, stdin: Readable.from([]), env: {}, entry: "", signal: new AbortController().signal },
    false,
  );
  const rows = 10_000;
  let held = 0;
  async function* numbers() {
    for (let n = 1; n <= rows; n++) {
      // The titles are a line too.
      if (n % 250 === 0) held = Math.max(held, n - printed.split("\n").length);
      yield { n };
    }
  }
  let seen = 0;
  await printer.listed(numbers(), (first) => {
    seen = first.length;
    return [{ name: "n", align: "right" }];
  });
  const lines = printed.trimEnd().split("\n");
  assert.equal(lines.length, rows + 1);
  assert.equal(lines.at(-1), "10000");
  assert.ok(seen <= 1000 && held <= 1000, `${seen} rows decided, ${held} were held`);
  printed = "";
  await printer.listed(Readable.from([]), () => [{ name: "nothing" }]);
  assert.equal(printed, "nothing\n");
});
