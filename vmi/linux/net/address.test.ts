import assert from "node:assert/strict";
import { isIPv6 } from "node:net";
import { test } from "node:test";
import fc from "fast-check";
import { formatIpv4, formatIpv6, formatLinkAddress } from "./address.ts";

/** Sixteen bytes that an address stands for, by way of a URL's host where there is no `::ffff:` text to keep. */
function expand(text: string): number[] {
  const ipv4 = /(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(text);
  const hex = ipv4
    ? text.slice(0, ipv4.index) +
      [1, 3].map((i) => ((Number(ipv4[i]) << 8) | Number(ipv4[i + 1])).toString(16)).join(":")
    : text;
  const [left = "", right] = hex.split("::");
  const groups = (part: string) => (part === "" ? [] : part.split(":").map((group) => Number.parseInt(group, 16)));
  const [a, b] = [groups(left), groups(right ?? "")];
  const all = right === undefined ? a : [...a, ...Array.from({ length: 8 - a.length - b.length }, () => 0), ...b];
  return all.flatMap((group) => [group >> 8, group & 0xff]);
}

test("addresses are written as inet_ntop() writes them", () => {
  const cases = [
    ["00000000000000000000000000000000", "::"],
    ["00000000000000000000000000000001", "::1"],
    ["fe800000000000000000000000000001", "fe80::1"],
    ["00000000000000000000ffff0a4d0001", "::ffff:10.77.0.1"],
    ["0000000000000000000000000a4d0001", "::10.77.0.1"],
    ["20010db8000000010000000000000001", "2001:db8:0:1::1"],
    ["20010db8000000000001000000000001", "2001:db8::1:0:0:1"],
    ["20010db8000100020003000400050000", "2001:db8:1:2:3:4:5:0"],
    ["00010002000300040005000600000000", "1:2:3:4:5:6::"],
  ] as const;
  for (const [hex, text] of cases) assert.equal(formatIpv6(Buffer.from(`ff${hex}`, "hex"), 1), text);
  assert.equal(formatIpv4(Uint8Array.of(0, 192, 0, 2, 255), 1), "192.0.2.255");
  assert.equal(formatLinkAddress(Uint8Array.of(0, 2, 0, 0xab), 1, 3), "02:00:ab");
  assert.equal(formatLinkAddress(Uint8Array.of(), 0, 0), "");
});

test("the text of an IPv6 address stands for the same bytes", () => {
  const byte = fc.oneof(fc.constant(0), fc.nat(255));
  fc.assert(
    fc.property(fc.array(byte, { minLength: 16, maxLength: 16 }), (bytes) => {
      const text = formatIpv6(Uint8Array.from(bytes), 0);
      assert.ok(isIPv6(text), text);
      assert.deepEqual(expand(text), bytes);
    }),
  );
});
