import assert from "node:assert/strict";
import { test } from "node:test";
import { AddressMap } from "./address-map.ts";

test("addresses that share a half are told apart", () => {
  const map = new AddressMap<string>();
  const addresses = [-1, 0, 1, 0x7fff_ffff].flatMap((hi) => [-0x8000_0000, 0, 1].map((lo) => ({ hi, lo })));
  for (const at of addresses) {
    assert.equal(map.get(at), undefined);
    map.set(at, `${at.hi} ${at.lo}`);
  }
  for (const at of addresses.toReversed()) assert.equal(map.get({ ...at }), `${at.hi} ${at.lo}`);
  map.set(addresses[0]!, "another");
  assert.equal(map.get(addresses[0]!), "another");
  map.clear();
  for (const at of addresses) assert.equal(map.get(at), undefined);
});
