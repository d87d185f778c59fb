import assert from "node:assert/strict";
import { test } from "node:test";
import { InvalidArgumentError } from "commander";
import {
  parseAddress,
  parseColumns,
  parseLeaseSeconds,
  parseLength,
  parseLifetime,
  parseLimit,
  parsePid,
  parsePlace,
  parseSpace,
  parseWhere,
} from "./parse.ts";

const refuses = (parse: (text: string) => unknown, ...texts: string[]) => {
  for (const text of texts) assert.throws(() => parse(text), InvalidArgumentError, text);
};

test("addresses: decimal, 0x, and the 16 digits of a kernel log", () => {
  assert.equal(parseAddress("4096"), 4096n);
  assert.equal(parseAddress("0xFFFFffff81000000"), 0xffffffff81000000n);
  assert.equal(parseAddress("ffffffff81000000"), 0xffffffff81000000n);
  assert.equal(parseAddress("1234567890123456"), 1234567890123456n);
  refuses(parseAddress, "", "-1", "0x", "0xzz", "12g", "1e3", "fffff", `0x1${"0".repeat(16)}`, "99999999999999999999");
});

test("places: an address or a kernel symbol with an offset", () => {
  assert.deepEqual(parsePlace("0x10"), { kind: "address", address: 16n });
  assert.deepEqual(parsePlace("init_task"), { kind: "symbol", name: "init_task", offset: 0n });
  assert.deepEqual(parsePlace("init_task+0x10"), { kind: "symbol", name: "init_task", offset: 16n });
  assert.deepEqual(parsePlace("foo.isra.0-8"), { kind: "symbol", name: "foo.isra.0", offset: -8n });
  refuses(parsePlace, "", "0xzz", "init_task+", "init_task+x", "a b", "-5", `0x1${"0".repeat(16)}`);
});

test("lengths take powers of 1024", () => {
  assert.deepEqual(["16", "0x1000", "4K", "4KiB", "16m", "1G"].map(parseLength), [
    16n,
    4096n,
    4096n,
    4096n,
    16n << 20n,
    1n << 30n,
  ]);
  refuses(parseLength, "0", "", "-1", "4X", "1.5K", "99999999999T");
});

test("bounded integers", () => {
  assert.equal(parsePid("1"), 1);
  refuses(parsePid, "0", "-1", "x", "2147483648", "1.5");
  assert.equal(parseLimit("20"), 20);
  refuses(parseLimit, "0", "9007199254740993");
  assert.equal(parseLeaseSeconds("300"), 300);
  refuses(parseLeaseSeconds, "0", "301");
  assert.deepEqual(["12h", "30d", "366d"].map(parseLifetime), [12, 720, 8784]);
  refuses(parseLifetime, "0d", "367d", "30", "1w");
});

test("spaces", () => {
  assert.deepEqual(parseSpace("kernel"), "kernel");
  assert.deepEqual(parseSpace("physical"), "physical");
  assert.deepEqual(parseSpace("pid:7"), { pid: 7 });
  refuses(parseSpace, "", "user", "pid:", "pid:x");
});

test("columns and constraints add up over several options", () => {
  assert.deepEqual(parseColumns("pid, name", ["uid"]), ["uid", "pid", "name"]);
  refuses((text) => parseColumns(text, undefined), "", "a,,b", ",");
  const where = parseWhere("name=b=c", parseWhere("uid=0", parseWhere("name=a", undefined)));
  assert.deepEqual(where, { name: ["a", "b=c"], uid: ["0"] });
  assert.deepEqual(parseWhere("cmdline=", undefined), { cmdline: [""] });
  assert.deepEqual(parseWhere("cmdline=two\nlines", undefined), { cmdline: ["two\nlines"] });
  refuses((text) => parseWhere(text, undefined), "name", "=x", "", "__proto__=1", "a b=1");
});
